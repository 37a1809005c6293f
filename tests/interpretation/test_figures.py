"""What the figures of a reading show, read from their axes, and the files that they become."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from esc_tf.interpretation.figures import (
    all_figures,
    classes,
    draw_figures,
    explained,
    overlays,
    patterns,
    spectrograms,
)
from esc_tf.interpretation.figures.canvas import VERMILION, label_bands
from esc_tf.interpretation.figures.layer_view import LayerView
from esc_tf.interpretation.reading import Reading
from tests.interpretation.planted_reading import (
    BINS,
    CLASSES,
    FRAMES,
    LAYER,
    RANK,
    SILENT_ROW,
    write_planted_reading,
)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return write_planted_reading(tmp_path_factory.mktemp("reading") / "planted")


@pytest.fixture(scope="module")
def view(reading: Reading) -> LayerView:
    return LayerView(reading, LAYER)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that are painted, in place of files."""
    figures: list[Figure] = []

    def keep(paint: Any, path: Path, *, width_in: float, height_in: float) -> Path:
        figures.append(Figure(figsize=(width_in, height_in), layout="constrained"))
        paint(figures[-1])
        return path

    for module in (classes, explained, overlays, patterns, spectrograms):
        monkeypatch.setattr(module, "write_png", keep)
    yield figures


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


NOWHERE = Path("nowhere.png")


def test_view_orders_features_by_frequency_and_leaves_silence_out(view: LayerView) -> None:
    assert view.choose_features(RANK) == list(range(RANK))
    np.testing.assert_allclose(view.centres[1:-1], 4.0 * np.arange(1, RANK - 1) + 1.0, atol=0.05)
    assert view.name_feature(3).startswith("3 · ")
    assert SILENT_ROW not in view.heard and SILENT_ROW not in view.shown_clips
    assert {view.reading.clips[row].true for row in view.shown_clips} == set(CLASSES)


def test_activations_show_what_each_feature_adds(view: LayerView, painted: list[Figure]) -> None:
    spectrograms.draw_activations(view, NOWHERE)
    (figure,) = painted
    shown = images(figure)
    assert len(shown) == 3 * len(view.filters)
    for place, row in enumerate(view.shown_clips):
        fires = CLASSES.index(view.reading.clips[row].true)
        for part in shown[place * len(view.filters) : (place + 1) * len(view.filters)]:
            assert part.shape == (RANK, FRAMES)
            # Shares of the fullest frame: it sums to 100, and the class's two features make it.
            assert part.sum(axis=0).max() == pytest.approx(100.0, rel=1e-5)
            assert set(np.argsort(part.mean(axis=1))[-2:]) == {2 * fires, 2 * fires + 1}


def test_predictions_stand_beside_their_target(view: LayerView, painted: list[Figure]) -> None:
    spectrograms.draw_predictions(view, NOWHERE)
    (figure,) = painted
    shown, columns = images(figure), 1 + len(view.filters) + 1
    for place, row in enumerate(view.shown_clips):
        target, *found = shown[place * columns : (place + 1) * columns]
        np.testing.assert_array_equal(target, view.reading.spectrogram(row))
        for prediction in found:  # all methods, and the floor, are exact here
            np.testing.assert_allclose(prediction, target, atol=1e-5)
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert sum("error 0.00" in title for title in titles) == 3 * (columns - 1)


def test_an_error_is_that_of_its_clip(
    reading: Reading, view: LayerView, painted: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(view.filters, "nmf", 0.75 * reading.filters(LAYER, "nmf"))
    spectrograms.draw_predictions(view, NOWHERE)
    titles = [axes.get_title() for axes in painted[0].axes if axes.images]
    assert sum("error 0.25" in title for title in titles) == 3


def test_transfer_functions_and_patterns_are_columns_of_w(
    view: LayerView, painted: list[Figure]
) -> None:
    patterns.draw_transfer_functions(view, NOWHERE)
    patterns.draw_patterns(view, NOWHERE)
    maps, panels = painted
    w = view.filters["nmf"]
    scaled = w / w.max(axis=0)
    for shown in images(maps):
        np.testing.assert_allclose(shown, scaled, rtol=1e-6)
    drawn = [axes for axes in panels.axes if axes.lines]
    assert len(drawn) == RANK
    for feature, axes in enumerate(drawn):
        assert axes.get_title().startswith(f"feature {feature} ")
        # The floor has the same components in another order: its nearest one is the pattern.
        assert axes.get_title().endswith("cosine 1.00")
        for line in axes.lines:
            np.testing.assert_allclose(line.get_ydata(), scaled[:, feature], rtol=1e-6)


def test_training_shows_every_kept_epoch(view: LayerView, painted: list[Figure]) -> None:
    assert patterns.draw_training(view, "nmf", NOWHERE) is None
    assert patterns.draw_training(view, "mel_basis", NOWHERE) == NOWHERE
    (figure,) = painted
    history = view.reading.history(LAYER, "mel_basis")
    assert history is not None
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["start", "20", "epoch 40"]
    for axes, filters in zip(shown, history.filters, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), filters)
    (losses,) = (axes.lines[0].get_ydata() for axes in figure.axes if axes.get_yscale() == "log")
    np.testing.assert_array_equal(losses, history.losses)


def test_discriminative_features_have_sign_significance_and_folds(
    view: LayerView, painted: list[Figure]
) -> None:
    classes.draw_discriminative_features(view, NOWHERE)
    found = view.reading.discriminative[LAYER]
    panels = [axes for axes in painted[0].axes if axes.patches]
    assert len(panels) == len(CLASSES)
    for index, axes in enumerate(panels):
        names = [label.get_text() for label in axes.get_yticklabels()]
        features = [int(name.split(" ")[0]) for name in names]
        assert set(features[:2]) == {2 * index, 2 * index + 1}
        effects = [found["effect"][index][feature] for feature in features]
        assert [bar.get_width() for bar in axes.patches] == effects
        assert effects == sorted(effects, reverse=True)
        for bar, feature in zip(axes.patches, features, strict=True):
            is_sure = found["adjusted_p"][index][feature] < 0.05 and (
                found["consistent"][index][feature] is True
            )
            assert (bar.get_facecolor()[3] > 0) == is_sure
        # The two that fire: +1 in all recordings and folds, and that is significant.
        assert effects[:2] == [1.0, 1.0]
        assert axes.patches[0].get_facecolor() == to_rgba(VERMILION, 0.75)
        for line in axes.lines[:2]:
            np.testing.assert_array_equal(line.get_xdata(), np.ones(4))


def test_tsne_keeps_classes_together_and_repeats(view: LayerView, painted: list[Figure]) -> None:
    classes.draw_embedding(view, NOWHERE)
    classes.draw_embedding(view, NOWHERE)
    first, second = ([line.get_xydata() for line in figure.axes[0].lines] for figure in painted)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    *by_class, wrong = first
    assert [len(points) for points in by_class] == [8, 8, 7] and len(wrong) == 1
    everything = np.concatenate(by_class)
    label_of = np.repeat(range(3), [8, 8, 7])
    distances = np.linalg.norm(everything[:, None] - everything, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (label_of[distances.argmin(axis=1)] == label_of).all()
    title = painted[0].get_suptitle()
    assert "of the same class for 100 % of clips (most frequent class: 35 %)" in title
    assert [text.get_text() for text in painted[0].axes[0].get_legend().get_texts()][-1] == (
        "misclassified"
    )


def test_explained_shows_errors_and_shuffles(reading: Reading, painted: list[Figure]) -> None:
    explained.draw_explained(reading, NOWHERE)
    lines = painted[0].axes[0].lines
    shown = [float(line.get_xdata()[0]) for line in lines if line.get_marker() == "o"]
    assert shown == [row["error"] for row in reading.scores]
    shuffles = [list(line.get_xdata()) for line in lines if line.get_marker() == "|"]
    assert shuffles == [row["errors"] for row in reading.scores]


def test_an_overlay_lies_over_the_input(painted: list[Figure]) -> None:
    features = np.random.default_rng(0).normal(size=(FRAMES, BINS))
    bright = np.zeros((FRAMES, BINS))
    bright[3, 7] = 5.0
    overlays.draw_overlays(
        features,
        [[overlays.Overlay("conv, for dog", bright)], [overlays.Overlay("none", 0 * bright)]],
        NOWHERE,
        frame_times_s=np.arange(FRAMES) / 10,
        frequencies_hz=None,
        title="clip",
    )
    # A class a row, the input alone at the top left.
    plain, lit, nothing, empty = painted[0].axes[:4]
    assert not nothing.images and not nothing.axison
    assert len(plain.images) == 1 and len(empty.images) == 1 and len(lit.images) == 2
    assert [text.get_text() for text in empty.texts] == ["nothing speaks for it"]
    shown = np.asarray(lit.images[1].get_array())
    assert np.unravel_index(shown.argmax(), shown.shape) == (7, 3) and shown.max() == 1.0
    # Frame 3 is at 0.3 s, and its pixel reaches half a frame to both sides.
    assert lit.images[1].get_extent()[:2] == pytest.approx([-0.05, 1.55])


def test_bands_are_labelled_with_their_frequency() -> None:
    axes = Figure().subplots()
    frequencies_hz = np.geomspace(50.0, 8000.0, 40)
    label_bands(axes, frequencies_hz)
    for label in axes.get_yticklabels():
        band, hz = label.get_position()[1], float(label.get_text().replace("k", "000"))
        assert frequencies_hz[int(band)] == pytest.approx(hz, rel=0.08)


def test_files_of_a_reading(reading: Reading, tmp_path: Path) -> None:
    drawn = draw_figures(reading, tmp_path / "figures")
    names = [path.name for path in drawn]
    start = "block%2F1-"
    assert names == [
        "explained.png",
        *(f"{start}{name}.png" for name in all_figures.OF_A_LAYER),
        f"{start}training-mel_basis.png",
    ]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    for path in drawn:
        with Image.open(path) as picture:
            # At 100 % letters are readable, and the picture fits on a wide screen.
            assert 500 < picture.width < 2100
            assert len(set(picture.convert("L").getdata())) > 20, path.name


def test_what_a_reading_does_not_allow_is_left_out(reading: Reading, tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"classes": [], "effect": [], "adjusted_p": [], "fold_effect": []}
    facts = {**reading.facts, "discriminative": {LAYER: nothing}, "scores": []}
    poor = dataclasses.replace(reading, facts=facts)
    names = {path.name for path in draw_figures(poor, tmp_path)}
    assert "explained.png" not in names
    assert "block%2F1-discriminative_features.png" not in names
    assert "block%2F1-patterns.png" in names


def test_one_clip_is_enough_for_most(tmp_path: Path) -> None:
    whole = write_planted_reading(tmp_path / "reading", clips_of_each=1)
    # Copies, since the files are mapped.
    target, activations = np.array(whole.spectrogram(1)), np.array(whole.activations(LAYER)[1:2])
    np.save(whole.folder / "spectrograms.npy", target[np.newaxis])
    np.save(next((whole.folder / "layers").iterdir()) / "activations.npy", activations)
    facts = {
        **whole.facts,
        "clips": whole.facts["clips"][1:2],
        "discriminative": {LAYER: {"classes": []}},
    }
    poor = Reading(whole.folder, facts)
    names = {path.name for path in draw_figures(poor, tmp_path / "figures")}
    assert "block%2F1-tsne.png" not in names
    assert {"block%2F1-predictions.png", "block%2F1-activations.png"} <= names
