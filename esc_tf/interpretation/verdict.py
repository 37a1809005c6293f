"""Whether a layer explains the spectrogram better than chance, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esc_tf.interpretation.reading import PLAIN_NMF
from esc_tf.interpretation.scores import ScoreRow

NMF = "nmf"
NO_CONTROL = "none"
CONTROLS = {
    "shuffled_time": "shuffled in time",
    "shuffled_clips": "of other clips",
}
# Standard deviations of the shuffles' errors by which a layer must be better.
_MARGIN = 3.0


@dataclass(frozen=True)
class Verdict:
    """How far a layer's own activations bring NMF from chance towards the floor.

    Attributes:
        error: of NMF with the layer's activations.
        controls: control → mean error with activations that are shuffled so.
        is_better: whether the error is lower than that of every shuffle and, for each control,
            by more than 3 standard deviations of its shuffles than their mean.
        share_of_way: from the lowest control (0) to plain NMF of the same rank (1); below 0:
            worse than chance; None: the floor is no lower than chance.
        sentence: all of it, for people.
    """

    error: float
    controls: dict[str, float]
    is_better: bool
    share_of_way: float | None
    sentence: str


def judge_layer(rows: Sequence[ScoreRow]) -> Verdict:
    """Judge one layer by its rows of ``nmf``, of the controls and of plain NMF.

    Args:
        rows: of one layer. At least one control, whose shuffles are two or more. Transforms that
            leave as much as chance are named: NMF does the most that any W can for shuffled H.
    """
    by_key = {(row.method, row.control): row for row in rows}
    own, floor = by_key[NMF, NO_CONTROL], by_key[PLAIN_NMF, NO_CONTROL]
    controls = {name: by_key[NMF, name] for name in CONTROLS if (NMF, name) in by_key}
    error = own.fit.error
    is_better = all(
        error < min(row.errors) and error < row.fit.error - _MARGIN * (row.error_std or 0.0)
        for row in controls.values()
    )
    chance = min(row.fit.error for row in controls.values())
    way = chance - floor.fit.error
    share = (chance - error) / way if way > 0 else None
    told = " and ".join(
        f"{row.fit.error:.3f} ± {row.error_std or 0.0:.1g} with those {CONTROLS[name]}"
        for name, row in controls.items()
    )
    verb = "explains" if is_better else "does not explain"
    sentence = (
        f"{own.layer} {verb} the spectrogram better than chance: with its activations NMF leaves "
        f"an error of {error:.3f}, {told}"
    )
    if share is not None:
        rank = "" if floor.rank == own.rank else f" at rank {floor.rank}, as many as V allows,"
        sentence += (
            f"; that is {100 * share:.0f} % of the way to plain NMF, which finds its own "
            f"activations{rank} and leaves {floor.fit.error:.3f}"
        )
    weak = [
        f"{row.method} ({row.fit.error:.3f})"
        for row in rows
        if row.method not in (NMF, PLAIN_NMF) and row.fit.error >= chance
    ]
    if weak:
        sentence += f"; no better than NMF with shuffled activations: {', '.join(weak)}"
    return Verdict(
        error,
        {name: row.fit.error for name, row in controls.items()},
        is_better,
        share,
        sentence + ".",
    )
