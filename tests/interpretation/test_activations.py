"""Activations of one model from all four sources, and what is made of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from esc_tf.audio import Clip
from esc_tf.errors import AudioError, CheckpointError, EscTfError, RequestError, UnknownNameError
from esc_tf.frames import frame_times_s
from esc_tf.interpretation.activation_sources import (
    ActivationSource,
    find_saved_model,
    open_source,
)
from esc_tf.interpretation.activation_store import ActivationStore
from esc_tf.interpretation.activations import collect_activations, iterate_h, read_h
from esc_tf.interpretation.model_facts import ModelFacts
from esc_tf.tasks.classifier import load_classifier
from tests.export.models import LABELS, break_weight
from tests.interpretation.four_sources import (
    ACTIVATIONS,
    NUM_SAMPLES,
    RATE_HZ,
    serve_bundle,
    write_forms,
)

NAMES = (*ACTIVATIONS, "logits")
FRAME_TIMES_S = frame_times_s(32, 128, RATE_HZ)


def make_clips() -> list[tuple[str, Clip]]:
    """As long as the model's, shorter, longer, of another rate, and silent."""
    rng = np.random.default_rng(5)

    def noise(num_samples: int, rate_hz: int = RATE_HZ) -> Clip:
        return Clip((0.3 * rng.standard_normal(num_samples)).astype(np.float32), rate_hz)

    return [
        ("fitting", noise(NUM_SAMPLES)),
        ("short", noise(1500)),
        ("long", noise(6000)),
        ("44k", noise(22050, 44100)),
        ("silent", Clip(np.zeros(NUM_SAMPLES, np.float32), RATE_HZ)),
    ]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forms(tmp_path_factory.mktemp("forms"))


@pytest.fixture(scope="module")
def address(forms: Path) -> Iterator[str]:
    with serve_bundle(forms / "bundle") as found:
        yield found


@pytest.fixture(scope="module")
def sources(forms: Path, address: str) -> dict[str, ActivationSource]:
    bundle = forms / "bundle"
    return {
        "keras": open_source(forms / "tiny.keras"),
        "SavedModel": open_source(bundle / "saved_model"),
        "TFLite": open_source(bundle / "tflite" / "tiny.tflite"),
        "REST": open_source(address, bundle / "model_card.json"),
    }


@pytest.fixture(scope="module")
def store(
    sources: dict[str, ActivationSource], tmp_path_factory: pytest.TempPathFactory
) -> ActivationStore:
    """Of the .keras file."""
    folder = tmp_path_factory.mktemp("stores") / "keras"
    return collect_activations(sources["keras"], make_clips(), NAMES, folder, batch_size=2)


def test_the_store_holds_what_the_model_computes(forms: Path, store: ActivationStore) -> None:
    model = load_classifier(forms / "tiny.keras")
    clips = make_clips()
    fitted = np.stack([clips[0][1].waveform, clips[2][1].waveform[:NUM_SAMPLES]])
    wanted = model.compute_activations(fitted, NAMES)
    for name in NAMES:
        found = store.open(name)[[0, 2]]
        # Batches of other sizes round otherwise. Measured: 1.2e-6 of the largest.
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=1e-5 * np.abs(found).max())
    assert [clip.clip_id for clip in store.clips] == [clip_id for clip_id, _ in clips]
    assert [clip.is_silent for clip in store.clips] == [False] * 4 + [True]
    assert [clip.duration_s for clip in store.clips] == [0.5, 0.1875, 0.75, 0.5, 0.5]
    assert store.facts["label_names"] == list(LABELS)
    assert store.open("se2").shape == (5, 8, 6, 16)
    assert store.describe("embedding").grid is None
    # Two pools of two frames, which are 16 ms apart.
    times_s = store.describe("se2").grid.times_s(2)  # type: ignore[union-attr]
    assert times_s == pytest.approx([0.024, 0.088])


@pytest.mark.parametrize("form", ["SavedModel", "TFLite", "REST"])
def test_every_source_gives_the_same(
    form: str, sources: dict[str, ActivationSource], store: ActivationStore, tmp_path: Path
) -> None:
    found = collect_activations(sources[form], make_clips(), NAMES, tmp_path / "store", 3)
    assert found.clips == store.clips
    assert {**found.facts, "source": ""} == {**store.facts, "source": ""}
    for name in NAMES:
        assert found.describe(name) == store.describe(name)
        wanted, values = store.open(name), found.open(name)
        assert values.shape == wanted.shape
        error = np.linalg.norm(values - wanted) / np.linalg.norm(wanted)
        # Of the norm. Measured: 6.5e-7 at most (logits of TFLite), maps 3e-7.
        assert error < 1e-4, name
    for name in ("block1", "se2"):
        h = read_h(found, name, FRAME_TIMES_S)
        assert h.shape == (store.open(name).shape[-1], 5 * 32) and h.min() >= 0.0
        wanted = read_h(store, name, FRAME_TIMES_S)
        assert np.linalg.norm(h - wanted) < 1e-4 * np.linalg.norm(wanted)


def test_h_of_a_clip_of_some_and_of_all(store: ActivationStore) -> None:
    whole = read_h(store, "se2", FRAME_TIMES_S)
    parts = {clip.clip_id: h for clip, h in iterate_h(store, "se2", FRAME_TIMES_S)}
    np.testing.assert_array_equal(np.concatenate(list(parts.values()), axis=1), whole)
    some = read_h(store, "se2", FRAME_TIMES_S, ["silent", "short"])
    np.testing.assert_array_equal(some, np.hstack([parts["silent"], parts["short"]]))
    # At the map's own times H is the mean over its bands.
    grid = store.describe("se2").grid
    assert grid is not None
    (exact,) = (h for _, h in iterate_h(store, "se2", grid.times_s(8), ["long"]))
    np.testing.assert_allclose(exact, store.open("se2")[2].mean(axis=1).T, atol=1e-6)
    bands = read_h(store, "se2", FRAME_TIMES_S, ["long"], pooling="bands")
    assert bands.shape == (16 * 6, 32)


def test_an_event_is_heard_at_its_time(
    sources: dict[str, ActivationSource], tmp_path: Path
) -> None:
    clicks_s = [0.1, 0.2, 0.35]
    clips = []
    for click_s in clicks_s:
        waveform = 1e-4 * np.random.default_rng(0).standard_normal(NUM_SAMPLES)
        waveform[round(click_s * RATE_HZ)] = 1.0
        clips.append((f"{click_s}", Clip(waveform.astype(np.float32), RATE_HZ)))
    found = collect_activations(sources["keras"], clips, ["features"], tmp_path / "store")
    for place, (_, h) in enumerate(iterate_h(found, "features", FRAME_TIMES_S, negative="split")):
        # Decibels, most of them negative. A frame hears 32 ms.
        assert FRAME_TIMES_S[(h[0] - h[1]).argmax()] == pytest.approx(clicks_s[place], abs=0.016)


# --- bad input


def test_what_has_no_time_or_is_negative_is_refused(store: ActivationStore) -> None:
    with pytest.raises(RequestError, match="embedding: has no time axis"):
        read_h(store, "embedding", FRAME_TIMES_S)
    with pytest.raises(RequestError, match="features of fitting: has negative values"):
        read_h(store, "features", FRAME_TIMES_S)
    with pytest.raises(RequestError, match="H of no clips"):
        read_h(store, "se2", FRAME_TIMES_S, [])


def test_unknown_names_list_near_ones_and_leave_nothing(
    sources: dict[str, ActivationSource], tmp_path: Path
) -> None:
    for source in sources.values():
        with pytest.raises(UnknownNameError, match=r"'blok1'; did you mean 'block1'\?.*se2"):
            collect_activations(source, make_clips(), ["blok1"], tmp_path / "x")
    # A classifier gives any layer, an export what it was exported with.
    layer = ["block1_relu1"]
    collect_activations(sources["keras"], make_clips(), layer, tmp_path / "layer")
    with pytest.raises(UnknownNameError, match="did you mean 'block1'"):
        collect_activations(sources["SavedModel"], make_clips(), layer, tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["layer"]


def test_nan_names_activation_and_clip(forms: Path, tmp_path: Path) -> None:
    # In a gate, since a ReLU makes 0 of NaN.
    model = break_weight(load_classifier(forms / "tiny.keras"), "se2_dense2")
    keras.saving.save_model(model, tmp_path / "broken.keras")
    source = open_source(tmp_path / "broken.keras")
    with pytest.raises(EscTfError, match="activation 'se2' of clip fitting holds NaN"):
        collect_activations(source, make_clips()[:2], ["block1", "se2"], tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.keras"]


class CountingSource:
    """Gives zeros, and remembers what it was asked for."""

    name = "counting"
    activation_names = ("map", "vector")

    def __init__(self) -> None:
        self.facts = ModelFacts(RATE_HZ, NUM_SAMPLES)
        self.batches: list[int] = []

    def compute(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        self.batches.append(len(waveforms))
        shapes = {"map": (10, 2, 3), "vector": (4,)}
        return {name: np.zeros((len(waveforms), *shapes[name]), np.float32) for name in names}


def test_clips_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    source, num_taken = CountingSource(), []

    def generate() -> Iterator[tuple[str, Clip]]:
        for index in range(10):
            num_taken.append(len(source.batches))
            yield str(index), Clip(np.zeros(4, np.float32), RATE_HZ)

    found = collect_activations(source, generate(), ["map", "vector"], tmp_path / "x", batch_size=4)
    assert source.batches == [4, 4, 2]
    assert num_taken == [0] * 4 + [1] * 4 + [2] * 2
    # Times that nothing tells: ten frames share half a second.
    described = found.describe("map")
    assert described.grid is not None and not described.is_exact
    assert described.grid.times_s(2) == pytest.approx([0.025, 0.075])
    assert found.describe("vector").grid is None
    # All silent: H is zero, and finite.
    assert not read_h(found, "map", FRAME_TIMES_S).any()


@pytest.mark.parametrize(
    ("waveform", "words"),
    [([], "b: holds no samples"), ([0.0, np.nan], "NaN or inf"), ([np.inf], "NaN or inf")],
)
def test_bad_clips_are_named_and_leave_nothing(
    waveform: list[float], words: str, tmp_path: Path
) -> None:
    clips = [("a", Clip(np.zeros(9, np.float32), RATE_HZ))]
    clips.append(("b", Clip(np.array(waveform, np.float32), RATE_HZ)))
    with pytest.raises(AudioError, match=words):
        collect_activations(CountingSource(), clips, ["map"], tmp_path / "x", batch_size=1)
    with pytest.raises(RequestError, match="a: two clips have this id"):
        collect_activations(CountingSource(), [clips[0]] * 2, ["map"], tmp_path / "x")
    with pytest.raises(RequestError, match="no activation is asked for"):
        collect_activations(CountingSource(), clips, [], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clips = make_clips()[:1]
    with pytest.raises(EscTfError, match="cannot be written .*nothing was kept"):
        collect_activations(CountingSource(), clips, ["map"], tmp_path / "file" / "x")


# --- models that cannot be used


def test_places_that_are_no_models(forms: Path, tmp_path: Path) -> None:
    for place, words in (
        (tmp_path / "none.keras", "no such model"),
        (tmp_path / "none.tflite", "no such model"),
        (tmp_path, "holds no model.keras"),
    ):
        with pytest.raises(RequestError, match=words):
            open_source(place)
    shutil.copy(forms / "bundle" / "tflite" / "tiny.tflite", tmp_path)
    with pytest.raises(RequestError, match="no model_card.json beside it or one folder above"):
        open_source(tmp_path / "tiny.tflite")
    card = tmp_path / "model_card.json"
    card.write_text("{}")
    with pytest.raises(RequestError, match="is no model card"):
        open_source(tmp_path / "tiny.tflite")
    facts: dict[str, Any] = json.loads((forms / "bundle" / card.name).read_text())
    facts["input"]["samples"] = 999
    card.write_text(json.dumps(facts))
    with pytest.raises(RequestError, match="not one waveform of the 999 samples"):
        open_source(tmp_path / "tiny.tflite")
    (tmp_path / "tiny.tflite").write_bytes(b"TFL3")
    with pytest.raises(CheckpointError, match="LiteRT cannot load it"):
        open_source(tmp_path / "tiny.tflite")


def test_a_saved_model_alone_says_its_rate(forms: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(forms / "bundle" / "saved_model" / "1", tmp_path / "a" / "b" / "7")
    assert find_saved_model(copy.parent) == copy
    source = open_source(copy.parent)
    assert source.facts == ModelFacts(RATE_HZ, NUM_SAMPLES, label_names=tuple(LABELS))
    found = collect_activations(source, make_clips(), ["se2"], tmp_path / "store")
    assert not found.describe("se2").is_exact
    (copy / "saved_model.pb").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=re.escape(f"{copy}: cannot be loaded")):
        open_source(copy)
