"""The kinds of front end in a configuration: which settings stay, what is refused, frame counts."""

from __future__ import annotations

from typing import Any

import pytest

from esc_tf.config import (
    AnyFrontEndConfig,
    HeuriNetConfig,
    LogMelConfig,
    MelInitConfig,
    MSTNetConfig,
    build_experiment,
    dump_experiment,
)
from esc_tf.config.loading import apply_overrides, merge
from esc_tf.config.yaml_format import parse_yaml
from tests.config.base import SHORTEST, build_with, problems_with


def switch(front_end: dict[str, Any], *overrides: str) -> AnyFrontEndConfig:
    """What a front end becomes by other settings."""
    raw = build_experiment(merge(SHORTEST, {"front_end": front_end})).model_dump(mode="json")
    return build_experiment(apply_overrides(raw, overrides)).front_end


def test_a_mel_spectrogram_that_learns_goes_on_with_the_settings_of_the_fixed_one() -> None:
    fixed = {"name": "log_mel", "n_mels": 40, "computation": "dft_conv"}
    learned = switch(fixed, "front_end.name=mel_init")
    assert isinstance(learned, MelInitConfig)
    assert (learned.n_mels, learned.trained) == (40, ["dft", "mel"])
    back = switch(learned.model_dump(), "front_end.name=log_mel", "front_end.hop_length=100")
    assert isinstance(back, LogMelConfig)
    assert (back.n_mels, back.hop_length, back.computation) == (40, 100, "rfft")


def test_other_front_ends_take_nothing_of_a_mel_spectrogram() -> None:
    mel = {"name": "log_mel", "n_mels": 40}
    assert switch(mel, "front_end.name=heurinet") == HeuriNetConfig(name="heurinet")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["front_end={name: heurinett}"], "front_end: unknown name 'heurinett'; did you mean"),
        (["front_end={name: heurinet, strides: [10]}"], "front_end.strides: must have at least 2"),
        (["front_end={name: heurinet, n_mels: 60}"], "front_end.n_mels: unknown key"),
        (["front_end={name: mstnet, hop_length: 0}"], "front_end.hop_length: must be at least 1"),
        (["front_end={name: mel_init, trained: [fft]}"], "front_end.trained.0: must be 'dft' or"),
        (["front_end={name: mel_init, trained: [mel, mel]}"], "front_end.trained: "),
        (["front_end={name: mel_init, fmax_hz: 30000.0}"], "front_end.fmax_hz: 30000 lies above"),
        (
            ["front_end={name: heurinet}", "audio.duration_s=0.01"],
            "audio.duration_s: 0.01 s is shorter than one frame of front_end heurinet",
        ),
        (
            ["front_end={name: mel_init, center: false}", "audio.duration_s=0.01"],
            "audio.duration_s: 0.01 s is shorter than one frame of front_end.n_fft 2048 samples",
        ),
        (["model={name: piczak_net, dropout: 1.0}"], "model.dropout: must be below 1"),
        (["model={name: piczak_net, kernel_l2: -1.0}"], "model.kernel_l2: must be at least 0"),
        (
            ["model.head={kind: attention, kernel_l2: 0.1}"],
            "model.head.kernel_l2: belongs to kind mlp, and attention would ignore it",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(overrides: list[str], sentence: str) -> None:
    (problem,) = problems_with(*overrides)
    assert sentence in problem


def test_a_resolved_file_is_the_same_experiment() -> None:
    for front_end in ("mel_init", "heurinet", "mstnet"):
        experiment = build_with(f"front_end={{name: {front_end}}}")
        raw = parse_yaml(dump_experiment(experiment), "resolved.yaml")
        assert next(iter(raw["front_end"])) == "name"
        assert build_experiment(raw) == experiment


def test_frames_are_counted_without_a_layer() -> None:
    assert HeuriNetConfig(name="heurinet").count_frames(20_992) == 41
    assert MSTNetConfig(name="mstnet").count_frames(20_992) == 41
    assert MSTNetConfig(name="mstnet").count_frames(20_993) == 42
    mel = MelInitConfig(name="mel_init", n_fft=1024, hop_length=512)
    assert mel.count_frames(20_992) == 42
    assert mel.model_copy(update={"pre_emphasis": 0.97}).count_frames(20_992) == 41
