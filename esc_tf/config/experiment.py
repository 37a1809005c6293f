"""The whole configuration of an experiment, and the checks that look at several sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from esc_tf import frames
from esc_tf.config.audio import AudioConfig
from esc_tf.config.augment import AugmentConfig
from esc_tf.config.data import DataConfig, FilesConfig, ShardsDataConfig
from esc_tf.config.export import ExportConfig
from esc_tf.config.front_end import FrontEndConfig, LogMelConfig, MelConfig
from esc_tf.config.model import (
    AnyModelConfig,
    CNN10Config,
    HeadConfig,
    MobileNetStudentConfig,
    ModelConfig,
    SECNNConfig,
)
from esc_tf.config.recipe import DistributionConfig, RecipeConfig, SpectrogramForcingConfig
from esc_tf.config.section import Section

# Stands for ``data.test_fold`` in paths of what belongs to one fold, as in a cross-validation.
TEST_FOLD_PLACEHOLDER = "{test_fold}"
_ANY_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


class Experiment(Section):
    """Everything that decides the numbers of a run, and of what is made of it later."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    audio: AudioConfig = AudioConfig()
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    front_end: FrontEndConfig
    model: ModelConfig
    recipe: RecipeConfig = RecipeConfig()
    distribution: DistributionConfig = DistributionConfig()
    export: ExportConfig = ExportConfig()

    @property
    def num_samples(self) -> int:
        """Samples in one clip as the model sees it."""
        return frames.count_samples(self.audio.duration_s, self.audio.sample_rate_hz)

    def fill_placeholders(self, path: str) -> str:
        """A path with the test fold in place of ``{test_fold}``."""
        return path.replace(TEST_FOLD_PLACEHOLDER, str(self.data.test_fold))


def find_contradictions(experiment: Experiment) -> Iterator[str]:
    """Yield one sentence for each contradiction between sections, in the user's own paths."""
    yield from _front_end_contradictions(experiment)
    yield from _forcing_contradictions(experiment)
    yield from _phase_contradictions(experiment)
    yield from _split_contradictions(experiment)
    yield from _model_contradictions(experiment.model)
    yield from _segment_contradictions(experiment)
    yield from _distillation_contradictions(experiment)
    if experiment.distribution.xla and experiment.distribution.deterministic:
        yield (
            "distribution.xla: XLA has no repeatable gradient of max-pooling; set "
            "distribution.deterministic to false, or xla to false"
        )
    if experiment.distribution.xla and experiment.distribution.synchronized_batch_norm:
        yield (
            "distribution.xla: XLA cannot compile sums over devices; set "
            "distribution.synchronized_batch_norm to false, or xla to false"
        )


def _front_end_contradictions(experiment: Experiment) -> Iterator[str]:
    front_end = experiment.front_end
    if isinstance(front_end, MelConfig):
        yield from _mel_contradictions(experiment, front_end)
    if front_end.count_frames(experiment.num_samples) < 1:
        frame = f"front_end {front_end.name}"
        if isinstance(front_end, MelConfig):
            frame = f"front_end.n_fft {front_end.n_fft} samples"
        yield (
            f"audio.duration_s: {experiment.audio.duration_s:g} s is shorter than one frame of "
            f"{frame}"
        )


def _mel_contradictions(experiment: Experiment, front_end: MelConfig) -> Iterator[str]:
    nyquist_hz = experiment.audio.sample_rate_hz / 2
    fmax_hz = nyquist_hz if front_end.fmax_hz is None else front_end.fmax_hz
    if fmax_hz > nyquist_hz:
        yield (
            f"front_end.fmax_hz: {fmax_hz:g} lies above {nyquist_hz:g} Hz, half of "
            "audio.sample_rate_hz; lower it or leave it null"
        )
    if front_end.fmin_hz >= fmax_hz:
        yield f"front_end.fmin_hz: {front_end.fmin_hz:g} is not below fmax_hz {fmax_hz:g}"
    if front_end.win_length is not None and front_end.win_length > front_end.n_fft:
        yield (
            f"front_end.win_length: {front_end.win_length} is longer than "
            f"front_end.n_fft {front_end.n_fft}"
        )
    # Pre-emphasis takes the difference of neighbours, which costs one sample.
    num_samples = experiment.num_samples - (front_end.pre_emphasis is not None)
    reflects = front_end.center and front_end.pad_mode == "reflect"
    if reflects and num_samples <= front_end.n_fft // 2:
        yield (
            "front_end.pad_mode: reflect needs clips longer than n_fft / 2 samples; "
            "raise audio.duration_s"
        )


def _forcing_contradictions(experiment: Experiment) -> Iterator[str]:
    recipe = experiment.recipe
    forcing = recipe.spectrogram_forcing
    if forcing is None:
        return
    yield from _forced_contradictions("recipe", forcing, experiment, "name another front end")
    if not recipe.monitor.endswith("loss"):
        yield (
            f"recipe.monitor: {recipe.monitor} is not measured with spectrogram_forcing; use "
            "validation_loss"
        )
    if recipe.fine_tuning is not None and recipe.fine_tuning.learning_rates:
        yield (
            "recipe.fine_tuning.learning_rates: are those of a whole network, and "
            "spectrogram_forcing trains the front end alone; leave them out"
        )
    for option in ("distillation", "early_stopping"):
        section = getattr(recipe, option)
        if section is not None and not getattr(section, "monitor", "").endswith("loss"):
            yield (
                f"recipe.{option}: knows classes, and spectrogram_forcing does not; set it to null"
            )


def _phase_contradictions(experiment: Experiment) -> Iterator[str]:
    recipe = experiment.recipe
    phases = recipe.active_phases
    if not phases:
        if recipe.phases is not None:
            yield "recipe.phases: every phase is null; set recipe.phases to null for one training"
        return
    for option in ("distillation", "spectrogram_forcing"):
        if getattr(recipe, option) is not None:
            yield f"recipe.{option}: does not go with recipe.phases; set it to null"
    first = next(iter(phases))
    if phases[first].trained is not None and not getattr(recipe.fine_tuning, "source", None):
        yield (
            f"recipe.phases.{first}.trained: is the first phase, whose frozen layers would be "
            "random ones; train everything, or set recipe.fine_tuning.source"
        )
    for name, phase in phases.items():
        front_end = phase.front_end or experiment.front_end
        whole = experiment.model_copy(update={"front_end": front_end})
        if phase.front_end is not None:
            yield from _nested_contradictions(f"recipe.phases.{name}.front_end", whole)
        if phase.spectrogram_forcing is None:
            continue
        yield from _forced_contradictions(
            f"recipe.phases.{name}", phase.spectrogram_forcing, whole, "leave the phase out"
        )
        for option in ("trained", "learning_rates"):
            if getattr(phase, option):
                yield (
                    f"recipe.phases.{name}.{option}: spectrogram_forcing trains the front end and "
                    "nothing else; leave it out"
                )


def _forced_contradictions(
    section: str, forcing: SpectrogramForcingConfig, experiment: Experiment, remedy: str
) -> Iterator[str]:
    """Those of forcing the front end of an experiment, asked for in a section."""
    path = f"{section}.spectrogram_forcing"
    if isinstance(experiment.front_end, LogMelConfig):
        yield f"{path}: front_end log_mel has nothing that could learn; {remedy}"
    yield from _nested_contradictions(
        f"{path}.target", experiment.model_copy(update={"front_end": forcing.target})
    )


def _nested_contradictions(path: str, experiment: Experiment) -> Iterator[str]:
    """Those of a front end that stands elsewhere than in ``front_end``."""
    for sentence in _front_end_contradictions(experiment):
        yield re.sub(r"^front_end\b", path, sentence)


def _split_contradictions(experiment: Experiment) -> Iterator[str]:
    data, recipe = experiment.data, experiment.recipe
    if isinstance(data.validation, int) and data.validation == data.test_fold:
        yield (
            f"data.validation: fold {data.validation} is also data.test_fold; "
            "validation must not see the test fold"
        )
    if data.validation is not None:
        return
    monitors = {
        "recipe.early_stopping.monitor": recipe.early_stopping,
        "recipe.schedule.monitor": recipe.schedule,
    }
    for path, section in monitors.items():
        monitor = getattr(section, "monitor", "")
        if monitor.startswith("validation"):
            yield f"{path}: {monitor} needs data.validation, which is null"


def _segment_contradictions(experiment: Experiment) -> Iterator[str]:
    if experiment.audio.segments is None:
        return
    data = experiment.data
    if isinstance(data, ShardsDataConfig):
        yield (
            "audio.segments: are cut from decoded audio in the cache, which data.name shards does "
            "not have; name the data set that the shards were made of"
        )
    elif isinstance(data, FilesConfig) and data.decoder == "tfio":
        yield (
            "audio.segments: are cut from decoded audio in the cache, which data.decoder tfio does "
            "without; use soundfile"
        )
    if experiment.recipe.distillation is not None:
        yield (
            "audio.segments: a teacher answers for whole clips; leave out segments or "
            "recipe.distillation"
        )


def _distillation_contradictions(experiment: Experiment) -> Iterator[str]:
    for option in ("targets", "teacher"):
        path = getattr(experiment.recipe.distillation, option, None) or ""
        for found in _ANY_PLACEHOLDER.findall(path):
            if found != TEST_FOLD_PLACEHOLDER:
                yield (
                    f"recipe.distillation.{option}: {found} stands for nothing; "
                    f"{TEST_FOLD_PLACEHOLDER} is what there is"
                )
            elif experiment.data.test_fold is None:
                yield (
                    f"recipe.distillation.{option}: {found} stands for data.test_fold, which is "
                    "null; name the file itself"
                )


def _model_contradictions(model: AnyModelConfig) -> Iterator[str]:
    if isinstance(model, SECNNConfig):
        for block in model.squeeze_excitation_blocks:
            if block > len(model.block_filters):
                yield (
                    f"model.squeeze_excitation_blocks: block {block} does not exist; "
                    f"model.block_filters has {len(model.block_filters)}"
                )
    if isinstance(model, MobileNetStudentConfig):
        num_stages = len(model.block_filters)
        for option in ("depths", "strides", "kernels"):
            if len(getattr(model, option)) != num_stages:
                yield (
                    f"model.{option}: has {len(getattr(model, option))} values, and "
                    f"model.block_filters says that there are {num_stages} stages; give one for "
                    "each"
                )
        if model.plain_stages > num_stages:
            yield f"model.plain_stages: {model.plain_stages} of {num_stages} stages; lower it"
    if isinstance(model, CNN10Config) and model.embedding_units is None:
        if model.embedding_dropout:
            yield (
                "model.embedding_dropout: acts before the dense layer that model.embedding_units "
                "null leaves out; set it to 0, or use model.head.dropout"
            )
    elif isinstance(model, CNN10Config) and model.head.kind != "mlp":
        yield (
            f"model.head.kind: {model.head.kind} reads the last feature map, and the embedding's "
            "dense layer would never be trained; set model.embedding_units to null"
        )
    yield from _head_contradictions(model.head)


# The options of a head that only one kind has, with that kind.
_OPTIONS_OF_ONE_KIND = {
    "hidden_units": "mlp",
    "activation": "mlp",
    "dropout": "mlp",
    "kernel_l2": "mlp",
    "num_heads": "attention",
}


def _head_contradictions(head: HeadConfig) -> Iterator[str]:
    """An option that the head's kind ignores may be named, as resolved files do, but not set."""
    for option, kind in _OPTIONS_OF_ONE_KIND.items():
        default = HeadConfig.model_fields[option].default
        if head.kind != kind and getattr(head, option) != default:
            yield (
                f"model.head.{option}: belongs to kind {kind}, and {head.kind} would ignore it; "
                f"leave it at {default}"
            )
    if head.kind == "mlp" and not head.hidden_units and head.activation != "relu":
        yield (
            "model.head.activation: follows hidden layers, and model.head.hidden_units has none; "
            "leave it at relu"
        )
