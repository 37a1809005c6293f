"""How a model is trained: loss, optimiser, schedule, stopping; and on which devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from esc_tf.config.front_end import FrontEndConfig, LogMelConfig
from esc_tf.config.section import Section

LearningRate = Annotated[float, Field(gt=0.0)]
Epochs = Annotated[int, Field(ge=1)]
LayerPattern = Annotated[str, Field(min_length=1)]
LayerRates = dict[LayerPattern, Annotated[float, Field(gt=0.0, le=1000.0)]]
PhaseName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Monitor = Literal[
    "validation_loss",
    "validation_accuracy",
    "validation_balanced_accuracy",
    "loss",
    "accuracy",
]


class AdamConfig(Section):
    """Adam; AdamW when ``weight_decay`` is set. ``amsgrad``: never a larger step than before."""

    name: Literal["adam"]
    learning_rate: LearningRate = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    beta_1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta_2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    epsilon: Annotated[float, Field(gt=0.0)] = 1e-7
    amsgrad: bool = False
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
    """Warm-up, a plateau of ``constant_epochs``, then linear down to ``final_fraction``.

    The way down takes ``decay_epochs``, after which the rate stays; null: all that is left.
    ``warmup``: ``linear``, or ``exponential``, which is ``exp(-5 (1 - epoch / warmup_epochs)^2)``.
    """

    name: Literal["warmup_linear"]
    warmup: Literal["linear", "exponential"] = "linear"
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 10.0
    constant_epochs: Annotated[float, Field(ge=0.0)] = 0.0
    decay_epochs: Annotated[float, Field(gt=0.0)] | None = None
    final_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01


class ExponentialSchedule(Section):
    """Times ``decay`` after each epoch, from epoch ``start_epoch`` (counted from 1) on."""

    name: Literal["exponential"]
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.85
    start_epoch: Epochs = 1


class StepwiseSchedule(Section):
    """Times ``decay`` after every ``every_steps`` optimiser steps, whatever an epoch is."""

    name: Literal["stepwise"]
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    every_steps: Annotated[int, Field(ge=1)] = 100


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
    | ExponentialSchedule
    | StepwiseSchedule,
    Field(discriminator="name"),
]


class FineTuningConfig(Section):
    """Training that begins with the weights of a model there is, or whose layers differ in pace.

    ``source`` is a ``.keras`` file or a finished run's directory; null: all weights start at
    random, and nothing but ``learning_rates`` applies. It must have this experiment's
    backbone and front end; all of its weights but those that depend on the classes are taken, and
    those as well where the label names are equal. With ``inherited`` it may be another network with
    another front end: the layers that a pattern matches must be there as they are here, but for
    those of the head, which are taken where they fit; all others start afresh. The first checkpoint
    makes a run independent of the source. To train the head first and all layers afterwards,
    fine-tune twice: the first run's directory is the second one's source (or see ``phases``).

    Patterns are shell globs over names of layers (``stem*``, ``block[1-6]_*``, ``logits``); those
    in a learnable front end are ``front_end/conv_1`` and so on, which ``front_end/*`` matches and
    ``*`` does not. ``frozen`` layers keep their weights and batch statistics, and gradients pass
    through them; with ``trained`` all others are frozen. ``learning_rates`` multiplies the
    rate of the layers that a pattern matches; of several patterns that match a layer the last one
    counts, so that ``{"*": 0.1, logits: 1.0}`` says what it seems to. ``freeze_batch_norm``: the
    backbone's batch norms keep their statistics while their scales and offsets train, as suits sets
    too small for statistics of their own.
    """

    source: Annotated[str, Field(min_length=1)] | None = None
    inherited: Annotated[list[LayerPattern], Field(min_length=1)] | None = None
    frozen: list[LayerPattern] = []
    trained: Annotated[list[LayerPattern], Field(min_length=1)] | None = None
    learning_rates: LayerRates = {}
    freeze_batch_norm: bool = False

    @model_validator(mode="after")
    def _apart(self) -> FineTuningConfig:
        both = [pattern for pattern in self.frozen if pattern in self.learning_rates]
        if both:
            raise ValueError(
                f"learning_rates and frozen both hold '{both[0]}'; frozen layers learn nothing"
            )
        for option in ("inherited", "frozen", "trained", "freeze_batch_norm"):
            if self.source is None and getattr(self, option):
                raise ValueError(f"{option} needs a source; random weights would never learn")
        if self.frozen and self.trained is not None:
            raise ValueError("frozen and trained exclude each other; say one of them")
        return self


class DistillationConfig(Section):
    """Training on a teacher's answers beside the labels [Schmid 2023].

    The loss is ``label_weight`` times that of the labels and ``1 - label_weight`` times that of the
    teacher: with softmax ``T^2 KL(teacher || student)``, with sigmoid ``T^2`` binary cross-entropy,
    of probabilities from logits divided by the ``temperature`` T. What mixes clips mixes the
    teacher's probabilities alike.

    ``offline``: ``targets`` is a file that ``python -m esc_tf.distill teach`` wrote. If it holds
    augmented views, epoch ``e`` hears view ``e`` modulo their number, just as the teacher heard it,
    in place of a waveform augmentation of its own; if it holds the clean view alone, the teacher's
    answer to the clean clip goes with every augmentation. ``online``: ``teacher``, a ``.keras``
    file or a run's directory, hears each clip just as the student does, at its own rate.

    ``embedding_weight`` times the mean squared difference between the teacher's embedding, each
    unit standardised over the file, and an affine map of the student's is added to the loss
    [Romero 2015]; the map is trained along and left behind. The targets must hold embeddings
    (``teach --embeddings``).

    ``{test_fold}`` in a path stands for ``data.test_fold``.
    """

    mode: Literal["offline", "online"] = "offline"
    targets: Annotated[str, Field(min_length=1)] | None = None
    teacher: Annotated[str, Field(min_length=1)] | None = None
    label_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    embedding_weight: Annotated[float, Field(ge=0.0)] = 0.0

    @model_validator(mode="after")
    def _one_source(self) -> DistillationConfig:
        wanted, other = ("targets", "teacher") if self.mode == "offline" else ("teacher", "targets")
        if getattr(self, wanted) is None:
            raise ValueError(f"{self.mode} distillation needs '{wanted}'")
        if getattr(self, other) is not None:
            raise ValueError(f"{self.mode} distillation ignores '{other}'; leave it out")
        if self.mode == "online" and self.embedding_weight:
            raise ValueError("embedding_weight is for offline distillation; set it to 0")
        return self


class SpectrogramForcingConfig(Section):
    """The front end alone learns to compute a spectrogram [Jüttner et al.].

    The loss is the mean squared error against ``target``, centred and divided by half of its range
    over the training set, so that it lies in [-1, 1]. Class labels and the layers behind the front
    end play no part.
    """

    target: LogMelConfig


class PhaseConfig(Section):
    """One phase of a training in phases; what is null is the recipe's.

    ``front_end`` stands in the place of the experiment's in this phase. ``trained``: patterns as in
    ``fine_tuning``; null: everything; ``learning_rates`` as there. ``spectrogram_forcing``: the
    front end alone learns, and ``validation_loss`` says which weights are best.
    """

    front_end: FrontEndConfig | None = None
    trained: Annotated[list[LayerPattern], Field(min_length=1)] | None = None
    learning_rates: LayerRates = {}
    spectrogram_forcing: SpectrogramForcingConfig | None = None
    epochs: Epochs | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    optimizer: OptimizerConfig | None = None
    schedule: ScheduleConfig | None = None


class RecipeConfig(Section):
    """Supervised training. ``batch_size`` counts clips, or segments, over all devices.

    ``select`` says which weights ``model.keras`` gets: those of the best ``monitor`` or the last
    (always the last where ``monitor`` is not measured). ``fine_tuning``: begin with the weights of
    another model. ``distillation``: learn from another model's answers, too.
    ``spectrogram_forcing``: train the front end alone to compute a spectrogram. ``report``: write
    ``report/index.html`` when the run is finished.

    ``phases``: several trainings one after the other, by name; one that is null is left out. Each
    begins with the selected weights of the one before, layer by layer: a front end of other
    settings than the one before starts afresh. The last one's results are the run's.
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
    fine_tuning: FineTuningConfig | None = None
    distillation: DistillationConfig | None = None
    spectrogram_forcing: SpectrogramForcingConfig | None = None
    phases: dict[PhaseName, PhaseConfig | None] | None = None
    keep_checkpoints: Annotated[int, Field(ge=1)] = 2
    tensorboard: bool = False
    report: bool = True

    @property
    def active_phases(self) -> dict[str, PhaseConfig]:
        """The phases that are not null, in their order; empty: one plain training."""
        phases = self.phases or {}
        return {name: phase for name, phase in phases.items() if phase is not None}


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
