"""How a model hears a sound: windows, scores, features, and models that cannot be used."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
import pytest

from serving.errors import ServingError
from serving.page.analysis import analyse
from serving.page.hearing import Listener, NotUsableError, explain_use
from serving.page.sound import PageLimits, UploadedSound, UploadError
from serving.signatures import Signature, TensorSpec
from tests.serving.page import fakes
from tests.serving.page.sounds import encode, tone

LIMITS = PageLimits()
THREE_SOUNDS = np.concatenate([tone(hz, 2.0, 16_000) for hz in (200, 1_000, 3_000)])


def upload(waveform: np.ndarray, rate_hz: int = 16_000) -> UploadedSound:
    return UploadedSound(encode(waveform, rate_hz, "WAV", "FLOAT"), LIMITS)


# --- windows and scores


def test_windows_cover_the_sound_and_say_when() -> None:
    listener = Listener(fakes.sound_model())
    windows = [window for some in listener.hear(upload(THREE_SOUNDS), 6.0) for window in some]
    assert [window.start_s for window in windows] == pytest.approx(np.arange(0, 5.1, 0.5))
    assert windows[-1].end_s == pytest.approx(6.0)
    named = {window.start_s: window.probabilities.argmax() for window in windows}
    assert (named[0.5], named[2.5], named[4.5]) == (0, 1, 2)
    half = windows[3].probabilities  # from 1.5 to 2.5 s
    assert half[0] == pytest.approx(0.5, abs=0.01) and half[1] == pytest.approx(0.5, abs=0.01)


def test_windows_go_to_the_model_at_its_rate_and_in_batches() -> None:
    shapes: list[tuple[int, ...]] = []
    model = fakes.sound_model()
    model.on_run = lambda name, inputs: shapes.extend(item.shape for item in inputs.values())
    listener = Listener(model)
    list(listener.hear(upload(THREE_SOUNDS[: 16_000 * 5 + 800]), 5.05))
    # Ten full windows, and the rest, which the model fills up as it does.
    assert shapes == [(8, 8_000), (1, 8_000), (1, 4_400)]


@pytest.mark.parametrize(("duration_s", "hop_s"), [(0.2, 0.5), (30.0, 0.5), (600.0, 0.5)])
def test_hops_skip_nothing(duration_s: float, hop_s: float) -> None:
    assert Listener(fakes.sound_model()).choose_hop_s(duration_s) == hop_s


def test_the_few_samples_that_a_decoder_adds_are_no_window() -> None:
    listener = Listener(fakes.sound_model())
    for num_more, num_windows in [(0, 1), (79, 1), (80, 2)]:
        waveform = tone(1_000, (8_000 + num_more) / 8_000, 8_000)
        heard = [window for some in listener.hear(upload(waveform, 8_000), 1.0) for window in some]
        assert len(heard) == num_windows, num_more


def test_a_short_sound_is_heard_once() -> None:
    listener = Listener(fakes.sound_model())
    (windows,) = listener.hear(upload(tone(1_000, 0.25, 16_000)), 0.25)
    (window,) = windows
    assert (window.start_s, window.end_s) == (0.0, 0.25)
    assert window.probabilities.argmax() == 1


# --- the whole analysis


def test_the_analysis_tells_sound_progress_scores_and_features() -> None:
    items = list(analyse(upload(THREE_SOUNDS), Listener(fakes.sound_model())))
    assert [item["kind"] for item in items] == [
        "sound",
        "progress",
        "progress",
        "scores",
        "features",
    ]
    sound, first, last, scores, features = items
    assert (sound["duration_s"], sound["sample_rate_hz"], sound["problem"]) == (6.0, 16_000, None)
    assert 0.0 < first["end_s"] < last["end_s"] == 6.0
    assert [row["label"] for row in scores["classes"]] == ["low hum", "middle tone", "high whistle"]
    assert scores["num_classes"] == 3
    for row in scores["classes"]:
        assert len(row["probabilities"]) == len(scores["starts_s"]) == 11
        assert row["max"] == max(row["probabilities"])
        assert row["mean"] == pytest.approx(np.mean(row["probabilities"]), abs=1e-4)
    total = np.sum([row["probabilities"] for row in scores["classes"]], axis=0)
    assert total == pytest.approx(np.ones(11), abs=1e-4)
    surest = scores["classes"][0]["probabilities"][scores["surest"]]
    assert surest == max(max(row["probabilities"]) for row in scores["classes"])
    assert features["start_s"] == scores["starts_s"][scores["surest"]]


def test_classes_without_labels_are_numbered() -> None:
    listener = Listener(fakes.sound_model(without=["labels", "activations"]))
    assert not listener.has_features
    items = list(analyse(upload(THREE_SOUNDS), listener))
    assert [item["kind"] for item in items][-1] == "scores"
    assert {row["label"] for row in items[-1]["classes"]} == {"class 0", "class 1", "class 2"}


def test_scores_that_are_no_numbers_are_an_error_and_no_json() -> None:
    model = fakes.sound_model()
    run = model.run

    def answer_nan(
        name: str, inputs: Mapping[str, np.ndarray], outputs: object = None
    ) -> fakes.Arrays:
        return {key: value * np.nan if key == "probabilities" else value
                for key, value in run(name, inputs, None).items()}  # fmt: skip

    model.run = answer_nan  # type: ignore[method-assign,assignment]
    with pytest.raises(ServingError, match="scores that are no numbers"):
        list(analyse(upload(THREE_SOUNDS), Listener(model)))


# --- features


def read_map(channel: dict) -> np.ndarray:
    described = channel["map"]
    values = np.frombuffer(base64.b64decode(described["data"]), np.uint8)
    return values.reshape(described["rows"], described["columns"])


def test_features_are_what_rises_above_silence() -> None:
    waveform = np.concatenate([np.zeros(8_000, np.float32), tone(500, 2.0, 16_000)])
    features = Listener(fakes.sound_model()).find_features(upload(waveform), 0.0)
    assert (features["start_s"], features["end_s"]) == (0.0, 1.0)
    # Numbers in names count as numbers; `features` has one channel, and so none to choose from.
    assert [layer["name"] for layer in features["layers"]] == ["block2", "block10", "embedding"]
    block2, block10, embedding = features["layers"]
    assert block2["num_channels"] == 6
    # Channel c is c where there is sound: half of the window. In block10 it is 1 more, in silence
    # too, which does not count.
    for layer in (block2, block10):
        assert [item["index"] for item in layer["channels"]] == [5, 4, 3, 2, 1, 0]
        assert [item["activity"] for item in layer["channels"]] == pytest.approx(
            [2.5, 2.0, 1.5, 1.0, 0.5, 0.0], abs=0.1
        )
    activities = 0.5 * np.arange(6.0)
    expected = (activities - activities.mean()) / activities.std()
    assert [item["score"] for item in block2["channels"]] == pytest.approx(
        expected[::-1].tolist(), abs=0.01
    )
    strongest = read_map(block2["channels"][0])
    assert strongest.shape == (64, 8)
    assert set(strongest[:31].ravel()) == {0} and set(strongest[33:].ravel()) == {255}
    assert set(read_map(block2["channels"][-1]).ravel()) == {0}
    # The same in silence: nothing is active, and there is no map of a vector.
    assert {item["activity"] for item in embedding["channels"]} == {0.0}
    assert "map" not in embedding["channels"][0]


def test_features_of_a_window_further_on() -> None:
    sound = upload(THREE_SOUNDS)
    features = Listener(fakes.sound_model()).find_features(sound, 5.5)
    assert (features["start_s"], features["end_s"]) == (5.5, 6.0)
    with pytest.raises(UploadError, match="ends before 6.5 s"):
        Listener(fakes.sound_model()).find_features(sound, 6.5)


# --- models that the page cannot use


def test_a_model_of_sound_can_be_used() -> None:
    assert explain_use(fakes.sound_model().signatures) is None


def test_why_a_model_cannot_be_used() -> None:
    reason = explain_use(fakes.number_model().signatures)
    assert reason is not None and "does not take sound" in reason
    assert "serving_default (x)" in reason
    reason = explain_use(fakes.sound_model(without=["audio_format"]).signatures)
    assert reason is not None and "audio_format is missing. Export it again" in reason
    assert "has no signatures" in str(explain_use({}))
    text = TensorSpec("waveform", "waveform:0", "DT_STRING", (None,))
    outputs = fakes.sound_model().signatures["serving_default"].outputs
    odd = Signature("serving_default", fakes.PREDICT, {"waveform": text}, outputs)
    reason = explain_use({"serving_default": odd})
    assert reason is not None and "DT_STRING" in reason
    with pytest.raises(NotUsableError, match="does not take sound"):
        Listener(fakes.number_model())
