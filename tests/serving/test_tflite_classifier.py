"""The runner for devices: equal to Keras on arrays, files and streams, and without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import soxr

from serving import tflite_classifier
from serving.tflite_classifier import (
    MissingLibraryError,
    ModelFileError,
    SoundError,
    TFLiteClassifier,
)
from serving.tflite_facts import read_facts
from tests.serving.tflite_files import NUM_SAMPLES, RATE_HZ, build_model, convert

pytest.importorskip("ai_edge_litert", reason="needs the LiteRT interpreter: ai-edge-litert")
ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5  # of probabilities; measured 2e-6, with logits up to 80


@pytest.fixture(scope="module")
def model():
    return build_model()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tflite") / "tiny.tflite"
    path.write_bytes(convert(model, ("block2",)))
    return path


@pytest.fixture(scope="module")
def classifier(path) -> TFLiteClassifier:
    return TFLiteClassifier(path)


def make_sound(num_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    phase = np.cumsum(np.linspace(0.02, 1.2, num_samples))
    sound = 0.4 * np.sin(phase) + 0.05 * rng.standard_normal(num_samples)
    return sound.astype(np.float32)


def score_with_keras(model, clip: np.ndarray) -> np.ndarray:
    clip = np.pad(clip[:NUM_SAMPLES], (0, max(0, NUM_SAMPLES - len(clip))))
    return model(clip[np.newaxis])["probabilities"].numpy()[0]


def check_close(ours: np.ndarray, expected: np.ndarray) -> None:
    assert ours.shape == expected.shape and ours.dtype == np.float32
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(ours, expected, rtol=0.0, atol=TOLERANCE)


# --- the file


def test_facts_are_the_files_own(classifier) -> None:
    facts = classifier.facts
    assert classifier.label_names == ("low", "middle", "high")
    assert (classifier.sample_rate_hz, classifier.num_samples) == (RATE_HZ, NUM_SAMPLES)
    assert classifier.duration_s == 0.5
    assert (facts.name, facts.description, facts.version) == ("tiny", "for tests", "7")
    assert (facts.author, facts.licence) == ("the tests", "none")


@pytest.mark.parametrize("sampled_share", [0.3, 0.9, 0.999])
def test_truncated_files_are_refused(path, tmp_path, sampled_share: float) -> None:
    content = path.read_bytes()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(content[: int(len(content) * sampled_share)])
    with pytest.raises(ModelFileError, match=r"broken\.tflite: (is damaged|has no)"):
        TFLiteClassifier(broken)


def test_other_files_are_refused(path, tmp_path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        TFLiteClassifier(tmp_path / "missing.tflite")
    other = tmp_path / "other.tflite"
    other.write_bytes(b"RIFF but no model at all")
    with pytest.raises(ModelFileError, match=r"is not a \.tflite file"):
        TFLiteClassifier(other)


def test_a_file_without_labels_is_refused(path, tmp_path) -> None:
    with zipfile.ZipFile(path) as files:
        start = files.infolist()[0].header_offset
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(path.read_bytes()[:start])
    with pytest.raises(ModelFileError, match="has no labels; export the model again"):
        read_facts(bare)


def test_a_file_without_metadata_is_refused(tmp_path, model) -> None:
    from export.graphs import InferenceGraphs
    from export.tflite import convert_tflite

    bare = tmp_path / "bare.tflite"
    bare.write_bytes(convert_tflite(InferenceGraphs(model), "float32"))
    with pytest.raises(ModelFileError, match="has no metadata with rate and labels"):
        read_facts(bare)


# --- clips


def test_a_clip_is_scored_as_keras_does(model, classifier) -> None:
    clip = make_sound(NUM_SAMPLES)
    check_close(classifier.classify(clip), score_with_keras(model, clip))
    assert classifier.name_best(np.array([0.1, 0.7, 0.2]), 2) == [("middle", 0.7), ("high", 0.2)]


@pytest.mark.parametrize("num_samples", [1, 1000, 3999, 4001, 9000])
def test_other_lengths_are_filled_up_or_cut(model, classifier, num_samples: int) -> None:
    clip = make_sound(num_samples)
    check_close(classifier.classify(clip), score_with_keras(model, clip))


def test_where_a_shorter_clip_lies(model, path) -> None:
    clip = make_sound(1500)
    centred = np.pad(clip, (1250, 1250))
    check_close(
        TFLiteClassifier(path, pad="center").classify(clip), score_with_keras(model, centred)
    )
    repeated = np.tile(clip, 3)
    check_close(
        TFLiteClassifier(path, pad="repeat").classify(clip), score_with_keras(model, repeated)
    )


def test_channels_and_integers(model, classifier) -> None:
    clip = np.round(make_sound(NUM_SAMPLES) * 32768.0)
    expected = score_with_keras(model, (clip / 32768.0).astype(np.float32))
    check_close(classifier.classify(clip.astype(np.int16)), expected)
    check_close(classifier.classify(clip.astype(np.int32) << 16), expected)
    stereo = np.stack([clip + 100, clip - 100], axis=1) / 32768.0
    check_close(classifier.classify(stereo), expected)


def test_other_rates_are_resampled(model, classifier) -> None:
    clip = make_sound(12_000)
    resampled = soxr.resample(clip, 24_000, RATE_HZ, quality="VHQ")
    check_close(classifier.classify(clip, 24_000), score_with_keras(model, resampled))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.full(10, np.nan, np.float32), "NaN or infinite"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.zeros(10, np.uint8), "floats or signed integers"),
    ],
)
def test_unusable_waveforms_are_refused(classifier, waveform: np.ndarray, message: str) -> None:
    with pytest.raises(SoundError, match=message):
        classifier.classify(waveform)


def test_activations(model, classifier) -> None:
    clip = make_sound(NUM_SAMPLES)
    values = classifier.compute_activations(clip)
    expected = model.compute_activations(clip[np.newaxis], ["block2"])["block2"].numpy()
    assert values["block2"].shape == expected.shape
    difference = np.linalg.norm(values["block2"] - expected) / np.linalg.norm(expected)
    assert difference < 1e-5  # measured 1e-6
    check_close(values["probabilities"][0], score_with_keras(model, clip))


@pytest.mark.parametrize("delegate", [None, "none"])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_threads_and_delegates(model, path, num_threads: int, delegate: str | None) -> None:
    clip = make_sound(NUM_SAMPLES)
    ours = TFLiteClassifier(path, num_threads, delegate).classify(clip)
    check_close(ours, score_with_keras(model, clip))


def test_wrong_options_are_refused(path) -> None:
    with pytest.raises(ValueError, match="num_threads must be at least 1"):
        TFLiteClassifier(path, num_threads=0)
    with pytest.raises(ValueError, match="pad must be one of silence, center, repeat"):
        TFLiteClassifier(path, pad="reflect")
    with pytest.raises(MissingLibraryError, match="delegate nothing.so: cannot be loaded"):
        TFLiteClassifier(path, delegate="nothing.so")


# --- streams


def cut(sound: np.ndarray, lengths: Iterator[int]) -> Iterator[np.ndarray]:
    start = 0
    while start < len(sound):
        length = next(lengths)
        yield sound[start : start + length]
        start += length


@pytest.mark.parametrize("lengths", [(1,), (160,), (3999, 1, 0, 2500), (50_000,)])
def test_a_stream_is_heard_window_by_window(model, classifier, lengths: tuple[int, ...]) -> None:
    sound = make_sound(9100)
    forever = (length for _ in iter(int, 1) for length in lengths)
    results = list(classifier.stream(cut(sound, forever), hop_s=0.25))
    # Full windows, and at last all that no window has had.
    ends = [4000, 6000, 8000, 9100]
    assert [result.end_s for result in results] == [end / RATE_HZ for end in ends]
    for result, end in zip(results, ends, strict=True):
        check_close(result.probabilities, score_with_keras(model, sound[end - 4000 : end]))


@pytest.mark.parametrize(("num_more", "num_results"), [(0, 2), (39, 2), (40, 3)])
def test_a_few_samples_more_are_no_window(classifier, num_more: int, num_results: int) -> None:
    results = list(classifier.stream([make_sound(6000 + num_more)], hop_s=0.25))
    assert len(results) == num_results


def test_a_hop_longer_than_the_window(model, classifier) -> None:
    sound = make_sound(14_000)
    results = list(classifier.stream([sound], hop_s=1.0))
    assert [result.end_s for result in results] == [0.5, 1.5, 1.75]
    check_close(results[1].probabilities, score_with_keras(model, sound[8000:12000]))


def test_a_stream_shorter_than_a_window_is_filled_up(model, classifier) -> None:
    sound = make_sound(1000)
    (result,) = classifier.stream([sound[:300], sound[300:]])
    assert result.end_s == 0.125
    check_close(result.probabilities, score_with_keras(model, sound))


def test_smoothing_is_an_exponential_average(classifier) -> None:
    sound = make_sound(9000)
    plain = [result.probabilities for result in classifier.stream([sound], 0.25)]
    smooth = [result.probabilities for result in classifier.stream([sound], 0.25, smoothing=0.75)]
    expected = plain[0]
    assert len(plain) == 4
    for heard, found in zip(plain[1:], smooth[1:], strict=True):
        expected = 0.75 * expected + 0.25 * heard
        check_close(found, expected)
    assert not np.allclose(plain[-1], smooth[-1], atol=1e-4)


def test_a_stream_at_another_rate(classifier) -> None:
    sound = make_sound(30_000)
    resampled = soxr.resample(sound, 24_000, RATE_HZ, quality="VHQ")
    chunks = (sound[start : start + 1111] for start in range(0, len(sound), 1111))
    found = list(classifier.stream(chunks, 0.25, sample_rate_hz=24_000))
    expected = list(classifier.stream([resampled], 0.25))
    assert [result.end_s for result in found] == [result.end_s for result in expected]
    for ours, theirs in zip(found, expected, strict=True):
        check_close(ours.probabilities, theirs.probabilities)


def test_results_come_as_soon_as_they_can(classifier) -> None:
    fed = []

    def feed() -> Iterator[np.ndarray]:
        for start in range(0, 8000, 1000):
            fed.append(start)
            yield make_sound(1000, seed=start)

    next(classifier.stream(feed(), hop_s=0.25))
    assert len(fed) == 4


def test_wrong_streams_are_refused(classifier) -> None:
    with pytest.raises(ValueError, match="hop_s must be at least one sample"):
        classifier.stream([], hop_s=0.0)
    with pytest.raises(ValueError, match="smoothing must be at least 0 and less than 1"):
        classifier.stream([], smoothing=1.0)
    with pytest.raises(SoundError, match="the stream has no samples"):
        list(classifier.stream([]))
    with pytest.raises(SoundError, match="NaN"):
        list(classifier.stream([np.array([0.0, np.inf], np.float32)]))


# --- files and the command


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_files(classifier, tmp_path, suffix: str) -> None:
    sound = np.stack([make_sound(40_000), make_sound(40_000, 1)], axis=1)
    path = tmp_path / f"sound{suffix}"
    soundfile.write(path, sound, 16_000)
    whole, rate_hz = soundfile.read(path, dtype="float32")
    expected = classifier.classify(whole, rate_hz)
    check_close(classifier.classify_file(path), expected)


def test_a_wav_file_needs_nothing_but_numpy(classifier, tmp_path) -> None:
    path = tmp_path / "sound.wav"
    sound = np.stack([make_sound(5000), make_sound(5000, 1)], axis=1)
    soundfile.write(path, sound, RATE_HZ, subtype="PCM_16")
    expected = classifier.classify_file(path)
    deep, ogg = tmp_path / "deep.wav", tmp_path / "sound.ogg"
    soundfile.write(deep, sound, RATE_HZ, subtype="PCM_24")
    soundfile.write(ogg, sound, RATE_HZ)
    with mock.patch.dict(sys.modules, {"soundfile": None, "soxr": None}):
        check_close(classifier.classify_file(path), expected)
        with pytest.raises(MissingLibraryError, match="24 bits a sample.*pip install soundfile"):
            classifier.classify_file(deep)
        with pytest.raises(MissingLibraryError, match="no WAV file.*pip install soundfile"):
            classifier.classify_file(ogg)
        with pytest.raises(MissingLibraryError, match="16000 Hz.*8000 Hz needs soxr"):
            classifier.classify(sound, 16_000)
        with pytest.raises(SoundError, match="cannot be read"):
            classifier.classify_file(tmp_path / "missing.wav")


def test_bad_sound_files_are_refused(classifier, tmp_path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros((0, 1)), RATE_HZ)
    with pytest.raises(SoundError, match=r"bad\.wav: cannot be read"):
        classifier.classify_file(bad)
    with pytest.raises(SoundError, match=r"empty\.wav: holds no samples"):
        classifier.classify_file(empty)


def test_other_is_what_no_class_reaches(model, tmp_path, capsys) -> None:
    sound, path = tmp_path / "sound.wav", tmp_path / "sure.tflite"
    soundfile.write(sound, make_sound(4000), RATE_HZ)
    path.write_bytes(convert(model, other_threshold=1.0))
    classifier = TFLiteClassifier(path)
    assert classifier.facts.other_threshold == 1.0
    assert classifier.choose_label(classifier.classify_file(sound)) == "other"
    assert tflite_classifier.main([str(path), str(sound), "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["label"] == "other" and len(line["labels"]) == len(model.label_names)
    assert tflite_classifier.main([str(path), str(sound)]) == 0
    assert capsys.readouterr().out.startswith(f"{sound}: other (")
    path.write_bytes(convert(model))
    classifier = TFLiteClassifier(path)
    best = classifier.name_best(classifier.classify_file(sound), 1)[0][0]
    assert classifier.choose_label(classifier.classify_file(sound)) == best


def test_the_command(path, classifier, tmp_path, capsys) -> None:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, make_sound(9000), RATE_HZ, subtype="FLOAT")
    assert tflite_classifier.main([str(path), str(sound), "--json", "--top-k", "2"]) == 0
    line = json.loads(capsys.readouterr().out)
    best = classifier.name_best(classifier.classify_file(sound), 2)
    assert [(entry["label"], entry["probability"]) for entry in line["labels"]] == best

    assert tflite_classifier.main([str(path), str(sound), "--hop", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{sound} {s} s" for s in (0.5, 1.0, 1.1)]

    missing = str(tmp_path / "missing.wav")
    assert tflite_classifier.main([str(path), missing, str(sound)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{sound}: ")
    assert captured.err.startswith(f"error: {missing}: cannot be read")
    assert tflite_classifier.main([missing, str(sound)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_tensorflow_is_loaded(path, tmp_path) -> None:
    """The files alone, in another folder, as on a device."""
    device = tmp_path / "device" / "serving"
    device.mkdir(parents=True)
    for name in ("__init__.py", "tflite_classifier.py", "tflite_facts.py", "waveforms.py"):
        (device / name).write_bytes((ROOT / "serving" / name).read_bytes())
    soundfile.write(tmp_path / "sound.wav", make_sound(4000), RATE_HZ, subtype="PCM_16")
    code = (
        "import sys; sys.modules['soundfile'] = None\n"
        "from serving.tflite_classifier import TFLiteClassifier\n"
        f"classifier = TFLiteClassifier({str(path)!r})\n"
        f"print(classifier.classify_file({str(tmp_path / 'sound.wav')!r}).shape)\n"
        "names = ('tensorflow', 'keras', 'torch', 'scipy', 'librosa', 'soxr', 'esc_tf', 'export')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=device.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["(3,)", "[]"]
