"""DeepFourier's trainings: as published, and alike where they are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from esc_tf.config import load_experiment

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_FRONT_ENDS = ("heurinet", "mstnet", "mel_init")


def test_piczak_net_is_trained_as_published() -> None:
    experiment = load_experiment(CONFIGS / "experiment" / "piczak_net_urbansound8k.yaml")
    recipe, segments = experiment.recipe, experiment.audio.segments
    assert segments is not None
    assert (segments.num_samples, segments.hop_samples) == (512 * 41, 512 * 41 // 2)
    assert (experiment.audio.sample_rate_hz, experiment.num_samples) == (22050, 20992)
    assert (recipe.epochs, recipe.batch_size) == (300, 1000)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.9, True)
    assert (optimizer.learning_rate, optimizer.clip_norm) == (2e-3, None)
    assert (recipe.monitor, recipe.select) == ("validation_balanced_accuracy", "best")
    assert (experiment.data.validation, experiment.data.test_fold) == (9, 10)
    assert experiment.model.dense_units == 5000


@pytest.mark.parametrize("name", _FRONT_ENDS)
def test_icebreaker_is_trained_as_published(name: str) -> None:
    experiment = load_experiment(CONFIGS / "experiment" / f"icebreaker_{name}_urbansound8k.yaml")
    phases = experiment.recipe.active_phases
    alone = load_experiment(CONFIGS / "experiment" / "piczak_net_urbansound8k.yaml")
    assert phases["backbone"].front_end == alone.front_end
    forced = ["forcing"] if name == "mstnet" else []
    assert list(phases) == ["backbone", *forced, "front_end", "first_conv", "everything"]
    assert [phases[key].epochs for key in phases if key != "forcing"] == [300, 100, 100, 100]
    assert [phases[key].trained for key in ("front_end", "first_conv", "everything")] == [
        ["front_end/*"],
        ["front_end/*", "block1_conv"],
        None,
    ]
    optimizer = experiment.recipe.optimizer
    rate, clip_norm = (5e-3, 3.0) if forced else (2e-3, None)
    assert (optimizer.learning_rate, optimizer.clip_norm) == (rate, clip_norm)
    if forced:
        forcing = phases["forcing"]
        assert forcing.spectrogram_forcing is not None and forcing.optimizer is not None
        assert forcing.spectrogram_forcing.target == alone.front_end
        assert (forcing.optimizer.name, forcing.optimizer.learning_rate) == ("adam", 3e-4)


@pytest.mark.parametrize("name", _FRONT_ENDS)
def test_trainings_on_esc10_hear_the_same_and_front_ends_learn_as_long(name: str) -> None:
    together = "mel_init_esc10" if name == "mel_init" else f"random_init_{name}_esc10"
    alone, broken, whole = (
        load_experiment(CONFIGS / "experiment" / f"{file}.yaml")
        for file in ("piczak_net_esc10", f"icebreaker_{name}_esc10", together)
    )
    for other in (broken, whole):
        assert (other.audio, other.data, other.model) == (alone.audio, alone.data, alone.model)
        assert other.recipe.batch_size == alone.recipe.batch_size
    phases = broken.recipe.active_phases
    assert phases["backbone"].front_end == alone.front_end
    assert phases["backbone"].epochs == alone.recipe.epochs
    assert whole.recipe.active_phases == {}
    joint = [phase.epochs or 0 for phase in phases.values() if phase.front_end is None]
    forced = [phase.epochs or 0 for phase in phases.values() if phase.spectrogram_forcing]
    assert whole.recipe.epochs == sum(joint) - sum(forced)
    if name == "mel_init":
        settings = broken.front_end.model_dump(exclude={"name", "trained", "reach"})
        assert settings.items() <= alone.front_end.model_dump().items()
