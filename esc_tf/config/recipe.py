"""How a model is trained: loss, optimiser, schedule, stopping; and on which devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from esc_tf.config.section import Section

LearningRate = Annotated[float, Field(gt=0.0)]
Epochs = Annotated[int, Field(ge=1)]
Monitor = Literal["validation_loss", "validation_accuracy", "loss", "accuracy"]


class AdamConfig(Section):
    """Adam; AdamW when ``weight_decay`` is set."""

    name: Literal["adam"]
    learning_rate: LearningRate = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    beta_1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta_2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    epsilon: Annotated[float, Field(gt=0.0)] = 1e-7
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None


class SGDConfig(Section):
    """Stochastic gradient descent. ``clip_norm`` clips each variable's gradient on its own."""

    name: Literal["sgd"]
    learning_rate: LearningRate = 1e-2
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: bool = True
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None


class ConstantSchedule(Section):
    """The optimiser's learning rate throughout."""

    name: Literal["constant"]


class ReduceOnPlateauSchedule(Section):
    """Times ``factor`` after ``patience`` epochs without a better ``monitor``."""

    name: Literal["reduce_on_plateau"]
    monitor: Monitor = "validation_loss"
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    patience: Epochs = 10
    min_learning_rate: Annotated[float, Field(ge=0.0)] = 1e-6


class WarmupCosineSchedule(Section):
    """Linear warm-up over ``warmup_epochs``, then half a cosine to ``final_fraction``."""

    name: Literal["warmup_cosine"]
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 10.0
    final_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class WarmupLinearSchedule(Section):
    """Linear warm-up, a plateau of ``constant_epochs``, then linear down to ``final_fraction``."""

    name: Literal["warmup_linear"]
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 10.0
    constant_epochs: Annotated[float, Field(ge=0.0)] = 0.0
    final_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01


class ExponentialSchedule(Section):
    """Times ``decay`` after each epoch, from epoch ``start_epoch`` (counted from 1) on."""

    name: Literal["exponential"]
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.85
    start_epoch: Epochs = 1


class EarlyStoppingConfig(Section):
    """Stop after ``patience`` epochs without a better ``monitor``."""

    monitor: Monitor = "validation_accuracy"
    patience: Epochs = 30
    min_delta: Annotated[float, Field(ge=0.0)] = 0.0


OptimizerConfig = Annotated[AdamConfig | SGDConfig, Field(discriminator="name")]
ScheduleConfig = Annotated[
    ConstantSchedule
    | ReduceOnPlateauSchedule
    | WarmupCosineSchedule
    | WarmupLinearSchedule
    | ExponentialSchedule,
    Field(discriminator="name"),
]


class RecipeConfig(Section):
    """Supervised training. ``batch_size`` counts clips over all devices.

    ``select`` says which weights ``model.keras`` gets: those of the best ``monitor`` or the last
    (always the last where ``monitor`` is not measured). ``report``: write ``report/index.html``
    when the run is finished.
    """

    name: Literal["supervised"] = "supervised"
    epochs: Epochs = 100
    batch_size: Annotated[int, Field(ge=1)] = 32
    loss: Literal["categorical_crossentropy", "binary_crossentropy"] = "categorical_crossentropy"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    optimizer: OptimizerConfig = AdamConfig(name="adam")
    schedule: ScheduleConfig = ConstantSchedule(name="constant")
    early_stopping: EarlyStoppingConfig | None = None
    monitor: Monitor = "validation_accuracy"
    select: Literal["best", "last"] = "best"
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    tensorboard: bool = False
    report: bool = True


class DistributionConfig(Section):
    """Devices and arithmetic.

    ``strategy: auto`` is ``multi_worker`` where ``TF_CONFIG`` names more than one worker; else it
    uses every visible GPU, else the CPU. ``devices`` names them instead, e.g.
    ``["GPU:0", "GPU:1"]``; ``multi_worker`` always takes all of a worker's GPUs, else its CPU.
    ``synchronized_batch_norm`` takes batch statistics over the whole batch instead of each
    device's share of it. ``logical_cpu_devices`` splits the CPU, for trying ``mirrored``
    without a GPU. ``deterministic`` asks TensorFlow for operations that repeat bit by
    bit; it excludes ``xla``.
    """

    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = "auto"
    devices: Annotated[list[str], Field(min_length=1)] | None = None
    logical_cpu_devices: Annotated[int, Field(ge=1, le=64)] | None = None
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    xla: bool = False
    synchronized_batch_norm: bool = False
    deterministic: bool = True
