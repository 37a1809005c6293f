"""Every set-up in configs/front_end becomes a layer with its settings."""

from __future__ import annotations

import pytest

from esc_tf.errors import UnknownNameError
from esc_tf.frontends import FRONT_ENDS, build_front_end
from tests.frontends.setups import FOLDER, LEARNED, NAMES, read_setup

# Frames, bands for one clip of the set-up's own length.
SHAPES = {
    "se_cnn_log_mel": (431, 128),
    "efficientat_log_mel": (500, 128),
    "efficientat_log_mel_20ms": (250, 128),
    "panns_log_mel": (501, 64),
    "tfnet_log_mel": (250, 40),
    "student_log_mel": (251, 64),
    "log_mel_60": (41, 60),
    "mel_init_60": (41, 60),
    "heurinet": (41, 60),
    "mstnet": (41, 60),
}


def test_names_are_all_there_are() -> None:
    assert sorted(NAMES + LEARNED) == sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES + LEARNED)
def test_files_say_what_they_are_and_how_they_are_used(name: str) -> None:
    first_line = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first_line.startswith("# ")
    assert f"`extends: ../front_end/{name}.yaml`" in first_line


@pytest.mark.parametrize("name", NAMES + LEARNED)
def test_builds_the_configured_layer(name: str) -> None:
    config, audio = read_setup(name)
    layer = build_front_end(config, audio.sample_rate_hz)
    assert layer.settings == config
    assert layer.sample_rate_hz == audio.sample_rate_hz
    num_samples = round(audio.duration_s * audio.sample_rate_hz)
    assert layer.compute_output_shape((None, num_samples)) == (None, *SHAPES[name], 1)


def test_unknown_name_lists_those_there_are() -> None:
    config = read_setup("panns_log_mel")[0].model_copy(update={"name": "logmel"})
    with pytest.raises(UnknownNameError, match="did you mean 'log_mel'"):
        build_front_end(config, 32000)
    assert list(FRONT_ENDS) == ["log_mel", "mel_init", "heurinet", "mstnet"]
