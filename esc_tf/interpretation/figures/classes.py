"""Features and classes: which features tell a class, and whether clips of a class lie together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from esc_tf.interpretation.figures.canvas import (
    BLUE,
    INK,
    MUTED,
    SERIES,
    VERMILION,
    set_title,
    shorten,
    write_png,
)
from esc_tf.interpretation.figures.layer_view import LayerView

SIGNIFICANT_P = 0.05
_MOST_CLASSES = 60
_FEATURES_A_CLASS = 8
_NUM_COLUMNS = 4
_MARKERS = ("o", "s", "^", "D", "P", "v", "X", "*", "<", "h")
_FEWEST_CLIPS = 5
_PERPLEXITY = 30.0


def draw_discriminative_features(view: LayerView, path: Path) -> Path | None:
    """Draw the features that tell each class best, with sign, significance and every fold.

    Bars are the effect among all recordings, right where the class fires more; full ones have an
    adjusted p below ``SIGNIFICANT_P`` and the same sign in every fold that can tell. Dots are the
    effects in the folds.

    Returns:
        None where no two classes can be compared.
    """
    found = view.reading.discriminative.get(view.layer, {})
    if not found.get("classes"):
        return None
    effect = np.asarray(found["effect"], np.float64)
    adjusted = np.asarray(found["adjusted_p"], np.float64)
    by_fold = np.asarray(found["fold_effect"], np.float64)
    is_consistent = np.asarray([[told is True for told in row] for row in found["consistent"]])
    is_sure = (adjusted < SIGNIFICANT_P) & is_consistent
    strength = np.sort(np.abs(effect), axis=1)[:, -_FEATURES_A_CLASS:].mean(axis=1)
    classes = np.sort(np.argsort(-strength, kind="stable")[:_MOST_CLASSES])
    num_columns = min(_NUM_COLUMNS, len(classes))
    num_rows = -(-len(classes) // num_columns)
    num_shown = min(_FEATURES_A_CLASS, view.num_features)

    def paint(figure: Figure) -> None:
        some = "" if len(classes) == len(effect) else f", {len(classes)} of {len(effect)} classes"
        set_title(
            figure,
            f"{view.layer}: the features that tell each class best{some}\n{found['statistic']}",
        )
        grid = figure.subplots(num_rows, num_columns, sharex=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(classes):
                axes.set_axis_off()
                continue
            index = classes[place]
            # Those that fire more on top, the strongest first.
            best = np.argsort(-np.abs(effect[index]), kind="stable")[:num_shown]
            best = best[np.argsort(-effect[index, best], kind="stable")]
            for row, feature in enumerate(best):
                value = effect[index, feature]
                color = VERMILION if value > 0 else BLUE
                is_full = is_sure[index, feature]
                axes.barh(
                    row, value, height=0.62, color=color if is_full else "none",
                    edgecolor=color, linewidth=1.0, alpha=0.75 if is_full else 1.0,
                )  # fmt: skip
                folds = by_fold[index, :, feature]
                axes.plot(
                    folds, np.full(len(folds), row), linestyle="none", marker="o", markersize=3.2,
                    color=INK, markeredgecolor="white", markeredgewidth=0.5,
                )  # fmt: skip
            axes.axvline(0.0, color=MUTED, linewidth=0.8)
            axes.set_yticks(range(num_shown), [view.name_feature(int(k)) for k in best])
            axes.tick_params(axis="y", length=0, labelsize=8)
            axes.set_ylim(num_shown - 0.5, -0.5)
            axes.set_xlim(-1.05, 1.05)
            axes.set_title(shorten(found["classes"][index]))
            axes.grid(True, axis="x")
            axes.spines["left"].set_visible(False)
            if place + num_columns >= len(classes):
                axes.set_xlabel("effect")
                axes.tick_params(labelbottom=True)
        figure.supylabel(
            "feature · middle of its pattern by NMF, where that is not empty", fontsize=9
        )
        figure.legend(handles=_explain_bars(), loc="outside lower center", ncols=2)

    return write_png(paint, path, width_in=2.8 * num_columns + 0.4, height_in=2.1 * num_rows + 1.3)


def _explain_bars() -> list[Any]:
    sure = f"p < {SIGNIFICANT_P:g} (adjusted), same sign in all folds"
    return [
        Patch(facecolor=VERMILION, alpha=0.75, label=f"fires more; {sure}"),
        Patch(facecolor=BLUE, alpha=0.75, label=f"fires less; {sure}"),
        Patch(facecolor="none", edgecolor=MUTED, label="not sure"),
        Line2D([], [], linestyle="none", marker="o", markersize=3.2, color=INK, label="one fold"),
    ]


def draw_embedding(view: LayerView, path: Path) -> Path | None:
    """Draw clips by t-SNE of their mean activations, coloured by class.

    Features are standardised; the start is the first two principal components, so that a seed
    gives the same picture. t-SNE shows which clips are neighbours and nothing of distances, so the
    title has a number of the features themselves: how often a clip's nearest neighbour among the
    clips of other folds (of other recordings, where there is one fold) has its class.

    Returns:
        None for fewer than five clips, or where all are alike.
    """
    reading = view.reading
    clips = [reading.clips[row] for row in view.heard]
    varies = view.pooled.std(axis=0) > 0 if len(clips) else np.zeros(0, bool)
    if len(clips) < _FEWEST_CLIPS or not varies.any():
        return None
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    values = StandardScaler().fit_transform(view.pooled[:, varies])
    seed = int(reading.settings.get("seed", 0))
    points = TSNE(
        perplexity=min(_PERPLEXITY, (len(clips) - 1) / 3),
        init="pca" if values.shape[1] > 1 else "random",
        random_state=seed,
    ).fit_transform(values)
    there = {clip.true for clip in clips}
    names = [name for name in reading.label_names if name in there]
    is_wrong = np.array([clip.predicted not in ("", clip.true) for clip in clips])

    def paint(figure: Figure) -> None:
        set_title(
            figure,
            f"{view.layer}: t-SNE of {len(clips)} clips' mean activations (seed {seed})\n"
            + _describe_neighbours(values, clips),
        )
        axes = figure.subplots()
        for index, name in enumerate(names):
            inside = np.array([clip.true == name for clip in clips])
            axes.plot(
                *points[inside].T,
                linestyle="none",
                marker=_MARKERS[index % len(_MARKERS)],
                # Five colours with every marker, so that 50 classes differ.
                color=SERIES[(index + index // len(_MARKERS)) % len(SERIES)],
                markersize=6.0,
                markeredgecolor="white",
                markeredgewidth=0.6,
                label=shorten(name),
            )
        if is_wrong.any():
            axes.plot(
                *points[is_wrong].T, linestyle="none", marker="o", markersize=11.0,
                color="none", markeredgecolor=INK, markeredgewidth=1.0, label="misclassified",
            )  # fmt: skip
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + (len(names) > 25))

    return write_png(paint, path, width_in=8.4 + 1.4 * (len(names) > 25), height_in=5.6)


def _describe_neighbours(values: np.ndarray, clips: list[Any]) -> str:
    """How often the nearest of the clips of other groups has a clip's class."""
    by_fold = len({clip.fold for clip in clips}) > 1
    groups = np.array([str(clip.fold if by_fold else clip.source_id) for clip in clips])
    labels = np.array([clip.true for clip in clips])
    squares = np.square(values).sum(axis=1)
    distances = squares[:, np.newaxis] - 2 * values @ values.T + squares
    distances[groups[:, np.newaxis] == groups] = np.inf
    asked = np.isfinite(distances).any(axis=1)
    if not asked.any():
        return "all clips are of one recording"
    nearest = distances.argmin(axis=1)
    share = float((labels[nearest] == labels)[asked].mean())
    guess = max(float((labels == label).mean()) for label in set(labels.tolist()))
    others = "folds" if by_fold else "recordings"
    return (
        f"nearest clip of other {others} in all features: of the same class for "
        f"{100 * share:.0f} % of clips (most frequent class: {100 * guess:.0f} %)"
    )
