"""A recording heard window by window: scores, padding, faults, memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from esc_tf.errors import AudioError, EscTfError, RequestError
from esc_tf.evaluation.timeline.scoring import check_windows, score_recording
from tests.evaluation.timeline.hearing import LABELS, RATE_HZ, LoudnessModel, write_steps

# One step of 16 bits.
STEP = 4e-5


def test_scores_are_those_of_the_windows(tmp_path: Path) -> None:
    path = write_steps(tmp_path / "s.wav", [0.0, 0.8, 0.4, 0.2, 0.6])
    model = LoudnessModel()
    with score_recording(model, path, window_s=2.0, hop_s=1.0, batch_size=3) as timeline:
        rows = list(timeline.read_rows())
        assert [(start, end) for start, end, _ in rows] == [(0, 2), (1, 3), (2, 4), (3, 5)]
        expected = np.array([0.4, 0.6, 0.3, 0.4])
        scores = np.stack([scores for *_, scores in rows])
        np.testing.assert_allclose(scores[:, 1], expected, atol=STEP)
        np.testing.assert_allclose(scores[:, 0], 1 - expected, atol=STEP)
        assert timeline.label_names == LABELS
        assert (timeline.num_windows, timeline.duration_s, timeline.problem) == (4, 5.0, None)
        assert timeline.num_led.tolist() == [2, 1, 1]
        assert timeline.highest_at.tolist() == [2, 1, 0]
        np.testing.assert_allclose(timeline.highest, [0.7, 0.6, 0.8], atol=STEP)
        assert timeline.last_window_s == 2.0
    # Always the same shape, though four windows fill no two batches of three.
    assert model.shapes == [(3, 16000), (3, 16000)]


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    path = tmp_path / "s.wav"
    soundfile.write(path, np.full(44100 * 3, 0.5, np.float32), 44100)
    with score_recording(LoudnessModel(), path, window_s=1.0, hop_s=1.0) as timeline:
        assert (timeline.num_windows, timeline.duration_s) == (3, 3.0)
        (scores,) = timeline.read_scores()
        assert scores[1, 1] == pytest.approx(0.5, abs=1e-3)


def test_a_label_map_is_applied(tmp_path: Path) -> None:
    path = write_steps(tmp_path / "s.wav", [0.2, 0.8])
    with score_recording(
        LoudnessModel(), path, window_s=1.0, hop_s=1.0, label_names=["any"], groups=[[0, 1]]
    ) as timeline:
        assert timeline.label_names == ("any",)
        (scores,) = timeline.read_scores()
        np.testing.assert_allclose(scores, [[0.8], [0.8]], atol=STEP)


# --- padding


@pytest.mark.parametrize(
    ("any_length", "window_s", "samples"), [(True, 2.0, 16000), (True, 6.0, 48000),
                                            (True, 0.5, 32000), (False, 2.0, 32000)],
)  # fmt: skip
def test_what_a_model_hears(
    tmp_path: Path, any_length: bool, window_s: float, samples: int
) -> None:
    path = write_steps(tmp_path / "s.wav", [0.5] * 6)
    model = LoudnessModel(any_length)
    with score_recording(model, path, window_s=window_s, hop_s=window_s) as timeline:
        assert {shape[1] for shape in model.shapes} == {samples}
        is_padded = samples != window_s * RATE_HZ
        assert timeline.padded_to_s == (4.0 if is_padded else None)
        (scores,) = timeline.read_scores()
        level = 0.5 * window_s * RATE_HZ / samples
        np.testing.assert_allclose(scores[:, 1], level, atol=STEP)


@pytest.mark.parametrize(
    ("pad", "valid", "last_sample"),
    [("end", 4000, 0.0), ("silence", 16000, 0.0), ("repeat", 16000, 0.5)],
)
def test_the_last_window_is_padded_as_in_training(
    tmp_path: Path, pad: str, valid: int, last_sample: float
) -> None:
    path = write_steps(tmp_path / "s.wav", [0.5] * 5, step_s=0.5)
    model = LoudnessModel(pad=pad)
    with score_recording(model, path, window_s=2.0, hop_s=2.0, batch_size=8) as timeline:
        assert model.num_samples == [16000, valid]
        (scores,) = timeline.read_scores()
        assert scores[1, 2] == pytest.approx(last_sample, abs=STEP)
        assert timeline.last_window_s == 0.5
        assert [row[:2] for row in timeline.read_rows()] == [(0.0, 2.0), (2.0, 2.5)]


def test_a_recording_shorter_than_a_window_is_one_window(tmp_path: Path) -> None:
    path = write_steps(tmp_path / "s.wav", [0.5], step_s=0.3)
    with score_recording(LoudnessModel(), path, window_s=5.0, hop_s=1.0) as timeline:
        assert (timeline.num_windows, timeline.last_window_s) == (1, 0.3)


# --- faults


def test_windows_that_the_model_cannot_take(tmp_path: Path) -> None:
    for window_s, hop_s, any_length, message in (
        (5.0, 1.0, False, "--window: 5 s is longer than the 4 s that the model takes"),
        (1e-5, 1.0, True, "--window: 1e-05 s is less than a sample at 8000 Hz"),
        (1.0, 1e-5, True, "--hop: 1e-05 s is less than a sample"),
    ):
        with pytest.raises(RequestError, match=message):
            check_windows(LoudnessModel(any_length), window_s, hop_s)
    check_windows(LoudnessModel(), 5.0, 1.0)


def test_a_cut_recording_is_heard_up_to_the_cut(tmp_path: Path) -> None:
    whole = write_steps(tmp_path / "whole.wav", [0.5] * 10)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[: -2 * 3 * RATE_HZ])
    with score_recording(LoudnessModel(), cut, window_s=2.0, hop_s=1.0) as timeline:
        assert (timeline.num_windows, timeline.duration_s) == (6, 7.0)
        assert timeline.problem is not None
        assert "truncated" in timeline.problem


def test_a_file_that_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "s.wav").write_text("this is no sound")
    with pytest.raises(AudioError, match="not audio"):
        score_recording(LoudnessModel(), tmp_path / "s.wav", window_s=2.0, hop_s=1.0)


def test_scores_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    class Broken(LoudnessModel):
        def predict_on_batch(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"probabilities": np.full((len(inputs["waveform"]), 3), np.nan, np.float32)}

    path = write_steps(tmp_path / "s.wav", [0.5])
    with pytest.raises(EscTfError, match="not finite"):
        score_recording(Broken(), path, window_s=1.0, hop_s=1.0, folder=tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["s.wav"]


# --- memory


def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    peaks = []
    # The first time some things are made that stay, such as compiled functions.
    for minutes in (1, 5, 30):
        path = tmp_path / f"{minutes}.flac"
        rng = np.random.default_rng(0)
        with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(rng.uniform(-0.5, 0.5, 60 * RATE_HZ).astype(np.float32))
        tracemalloc.start()
        with score_recording(LoudnessModel(), path, window_s=5.0, hop_s=1.0) as timeline:
            assert timeline.num_windows == 60 * minutes - 4
            assert timeline.reduce_columns([0, 1], 100)[0].shape[0] <= 100
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Measured: 9.0 MB for 5 minutes, 9.2 MB for 30; the samples of those 25 minutes take 48 MB.
    assert abs(peaks[2] - peaks[1]) < 1_000_000
    assert peaks[2] < 20_000_000
