"""The three spectral transforms: planted filters come back, constraints hold, files keep them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from esc_tf.errors import RequestError
from esc_tf.interpretation.filter_history import FilterHistory
from esc_tf.interpretation.reading import ReadingWriter, layer_folder
from esc_tf.interpretation.transform_training import (
    compute_roughness,
    order_by_frequency,
    train_transform,
)
from esc_tf.interpretation.transforms import (
    TRANSFORMS,
    LinearNoBiasSoftplus,
    MelBasisTransform,
    MelConstrainedLinear,
    build_transform,
    to_mel,
)

BINS, RANK, FRAMES = 48, 5, 300
FREQUENCIES_HZ = 700.0 * np.expm1(np.linspace(to_mel(60.0), to_mel(7800.0), BINS) / 1127.0)
SHARES = np.linspace(0.0, 1.0, BINS)[:, np.newaxis]  # of the band, in mel


def plant_filters(name: str, rng: np.random.Generator) -> np.ndarray:
    """A W that the transform of this name can be, written out anew."""
    gains = rng.uniform(0.5, 2.0, RANK)
    places = np.arange(1, RANK + 1) / (RANK + 1)
    if name == "linear_no_bias_softplus":
        return rng.gamma(0.4, 1.0, (BINS, RANK))
    if name == "mel_constrained_linear":
        centres = places + rng.uniform(-0.05, 0.05, RANK)
        widths = rng.uniform(0.1, 0.25, RANK)
        return gains * np.maximum(0.0, 1.0 - np.abs(SHARES - centres) / widths)
    bells = np.exp(-0.5 * ((SHARES - places) / (0.5 / (RANK + 1))) ** 2)
    return gains * bells * np.exp(rng.uniform(-0.3, 0.3, bells.shape))


def plant(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V with noise of 5 %, H of different units, and W."""
    rng = np.random.default_rng(2)
    filters = plant_filters(name, rng)
    activations = rng.gamma(0.4, 1.0, (RANK, FRAMES)) * rng.uniform(0.3, 3.0, (RANK, 1))
    noise = rng.gamma(400.0, 1.0 / 400.0, (BINS, FRAMES))
    return (filters @ activations + 1e-3) * noise, activations, filters


def correlate(found: np.ndarray, planted: np.ndarray) -> np.ndarray:
    return np.diag(np.corrcoef(found.T, planted.T)[:RANK, RANK:])


@pytest.fixture(scope="module")
def trained() -> dict[str, tuple]:
    """Name → transform, history and what was planted."""
    results = {}
    for name in TRANSFORMS:
        spectrogram, activations, filters = plant(name)
        transform = build_transform(name, FREQUENCIES_HZ)
        history = train_transform(transform, spectrogram, activations)
        results[name] = (transform, history, spectrogram, activations, filters)
    return results


@pytest.mark.parametrize("name", TRANSFORMS)
def test_planted_filters_come_back(trained, name) -> None:
    transform, history, spectrogram, activations, filters = trained[name]
    found = transform.filters
    assert found.shape == (BINS, RANK) and found.min() >= 0
    assert correlate(found, filters).min() >= 0.95
    assert correlate(history.filters[0], filters).min() < correlate(found, filters).min()
    np.testing.assert_allclose(found.sum(axis=0), filters.sum(axis=0), rtol=0.15)
    error = np.linalg.norm(spectrogram - found @ activations) / np.linalg.norm(spectrogram)
    assert error < 0.15  # of which 0.05 is noise
    estimate = transform(activations.T.astype(np.float32))
    np.testing.assert_allclose(estimate, (found @ activations).T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_filters_are_kept_every_20_epochs(trained, name, tmp_path) -> None:
    transform, history, *_ = trained[name]
    assert history.epochs.tolist() == list(range(0, 201, 20))
    assert len(history.losses) == 200 and history.losses[-1] < 0.2 * history.losses[0]
    np.testing.assert_array_equal(history.filters[-1], transform.filters)
    writer = ReadingWriter(tmp_path)
    folder = layer_folder(tmp_path, "layer")
    folder.mkdir(parents=True)
    writer.write_filters("layer", name, transform.filters, history)
    stored = np.load(folder / f"{name}.npz")
    np.testing.assert_array_equal(stored["history"][-1], transform.filters)
    assert stored["epochs"].tolist() == history.epochs.tolist()
    assert [path.name for path in folder.iterdir()] == [f"{name}.npz"]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_stored_model_is_the_same(trained, name, tmp_path) -> None:
    transform, _, _, activations, _ = trained[name]
    model = keras.Sequential([keras.Input((None, RANK)), transform])
    model.save(tmp_path / "transform.keras")
    again = keras.models.load_model(tmp_path / "transform.keras")
    batch = activations.T[np.newaxis].astype(np.float32)
    np.testing.assert_array_equal(again(batch), model(batch))
    np.testing.assert_array_equal(again.layers[-1].filters, transform.filters)


def test_the_unit_of_either_side_does_not_matter() -> None:
    spectrogram, activations, _ = plant("mel_basis")
    units = np.array([1e-4, 1.0, 7.0, 1e3, 1e5])[:, np.newaxis]
    once, again = MelBasisTransform(FREQUENCIES_HZ), MelBasisTransform(FREQUENCIES_HZ)
    train_transform(once, spectrogram, activations, epochs=5)
    train_transform(again, 1e-6 * spectrogram, units * activations, epochs=5)
    np.testing.assert_allclose(again.filters * units.T, 1e-6 * once.filters, rtol=1e-3, atol=1e-12)


def test_triangles_keep_their_order_and_gradients() -> None:
    layer = MelConstrainedLinear(np.linspace(0.0, 8000.0, 257))
    layer.build((None, 40))
    start = layer.centres_mel
    np.testing.assert_allclose(np.diff(start), np.diff(start).mean(), rtol=1e-3)
    rng = np.random.default_rng(0)
    layer.gaps.assign(rng.normal(0.0, 5.0, 41))
    layer.widths.assign(rng.normal(0.0, 20.0, 40))
    assert (np.diff(layer.centres_mel) >= 0).all()
    assert layer.centres_mel.min() >= 0 and layer.centres_mel.max() <= to_mel(8000.0) * 1.0001
    assert layer.bandwidths_mel.min() > 0
    assert (layer.filters.max(axis=0) > 0).all()  # none has fallen between two bins


def test_features_out_of_order() -> None:
    spectrogram, activations, filters = plant("mel_constrained_linear")
    shuffle = np.array([3, 0, 4, 2, 1])
    shuffled = activations[shuffle]
    order = order_by_frequency(spectrogram, shuffled)
    np.testing.assert_array_equal(shuffle[order], np.arange(RANK))
    transform = MelConstrainedLinear(FREQUENCIES_HZ, order=order)
    train_transform(transform, spectrogram, shuffled)
    assert correlate(transform.filters, filters[:, shuffle]).min() >= 0.95


@pytest.mark.parametrize("seed", [106, 116, 118])  # where equally spaced triangles get stuck
def test_triangles_that_start_at_patterns_come_back(seed) -> None:
    rng = np.random.default_rng(seed)
    filters = plant_filters("mel_constrained_linear", rng)
    activations = rng.gamma(0.4, 1.0, (RANK, FRAMES)) * rng.uniform(0.3, 3.0, (RANK, 1))
    noise = rng.gamma(400.0, 1.0 / 400.0, (BINS, FRAMES))
    spectrogram = (filters @ activations + 1e-3) * noise
    shuffle = rng.permutation(RANK)
    order = order_by_frequency(spectrogram, activations[shuffle])
    transform = MelConstrainedLinear(FREQUENCIES_HZ, order=order)
    history = train_transform(transform, spectrogram, activations[shuffle], start_at_patterns=True)
    start, end = (correlate(history.filters[place], filters[:, shuffle]) for place in (0, -1))
    assert start.min() >= 0.9
    assert end.min() >= 0.99


def test_smoothness_smooths() -> None:
    spectrogram, activations, _ = plant("linear_no_bias_softplus")
    roughness = []
    for smoothness in (0.0, 0.3, 3.0):
        transform = LinearNoBiasSoftplus(FREQUENCIES_HZ)
        train_transform(
            transform,
            spectrogram,
            activations,
            smoothness=smoothness,
            epochs=60,
            divergence="kullback_leibler",
        )
        filters = np.asarray(transform.compute_scaled_filters())
        roughness.append(float(compute_roughness(filters)))
        assert roughness[-1] == pytest.approx((np.diff(filters, axis=0) ** 2).mean(), rel=1e-5)
    assert roughness[0] > 2 * roughness[1] > 4 * roughness[2]


def test_repeatable_and_from_a_file(tmp_path) -> None:
    spectrogram, activations, _ = plant("linear_no_bias_softplus")
    np.save(tmp_path / "v.npy", spectrogram)
    np.save(tmp_path / "h.npy", activations)
    mapped = [np.load(tmp_path / name, mmap_mode="r") for name in ("v.npy", "h.npy")]
    heard: list[int] = []
    histories: list[FilterHistory] = []
    for v, h in ((spectrogram, activations), mapped):
        histories.append(
            train_transform(
                LinearNoBiasSoftplus(FREQUENCIES_HZ, seed=3),
                v,
                h,
                epochs=3,
                keep_every=2,
                batch_frames=64,
                on_epoch=lambda epoch, loss: heard.append(epoch),
            )
        )
    np.testing.assert_array_equal(histories[0].losses, histories[1].losses)
    assert histories[0].epochs.tolist() == [0, 2, 3]
    assert heard == [1, 2, 3] * 2


def train(**settings) -> None:
    spectrogram, activations, _ = plant("mel_basis")
    spectrogram = settings.pop("spectrogram", spectrogram)
    activations = settings.pop("activations", activations)
    train_transform(MelBasisTransform(FREQUENCIES_HZ), spectrogram, activations, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build_transform("mel_bases", [1.0, 2.0]), "did you mean 'mel_basis'"),
        (lambda: MelBasisTransform([1.0]), "two frequencies"),
        (lambda: MelBasisTransform([1.0, 1.0]), "must rise"),
        (lambda: MelBasisTransform([1.0, 2.0], deviation=-1.0), "deviation -1.0"),
        (lambda: MelBasisTransform([1.0, 2.0], order=[0, 0]).build((None, 2)), "each of the 2"),
        (lambda: train(spectrogram=np.ones((3, FRAMES))), "3 bins and the transform 48"),
        (lambda: train(activations=-np.ones((RANK, FRAMES))), "negative"),
        (lambda: train(activations=np.full((RANK, FRAMES), np.nan)), "not finite"),
        (lambda: train(spectrogram=np.zeros((BINS, FRAMES))), "zero everywhere"),
        (lambda: train(activations=np.ones((FRAMES + 1, FRAMES))), "301 features are more than"),
        (lambda: train(epochs=0), "epochs"),
        (lambda: train(smoothness=-1.0), "smoothness"),
        (lambda: train(divergence="kl"), "unknown divergence 'kl'"),
    ],
)
def test_bad_input_is_told(call, message) -> None:
    with pytest.raises(RequestError, match=message):
        call()


def test_a_transform_of_other_features() -> None:
    spectrogram, activations, _ = plant("mel_basis")
    transform = MelBasisTransform(FREQUENCIES_HZ)
    train_transform(transform, spectrogram, activations, epochs=1)
    with pytest.raises(RequestError, match="built for 5 features, not 4"):
        train_transform(transform, spectrogram, activations[:4], epochs=1)
