"""All figures of a reading."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from esc_tf.interpretation.figures.classes import draw_discriminative_features, draw_embedding
from esc_tf.interpretation.figures.explained import draw_explained
from esc_tf.interpretation.figures.layer_view import LayerView
from esc_tf.interpretation.figures.patterns import (
    draw_patterns,
    draw_training,
    draw_transfer_functions,
)
from esc_tf.interpretation.figures.spectrograms import draw_activations, draw_predictions
from esc_tf.interpretation.reading import Reading

OF_A_LAYER = {
    "activations": draw_activations,
    "transfer_functions": draw_transfer_functions,
    "predictions": draw_predictions,
    "discriminative_features": draw_discriminative_features,
    "patterns": draw_patterns,
    "tsne": draw_embedding,
}


def draw_figures(reading: Reading, folder: str | Path) -> list[Path]:
    """Draw what a reading says into PNG files.

    ``explained.png`` compares the layers; of each layer there are ``LAYER-activations.png``,
    ``-transfer_functions``, ``-predictions``, ``-discriminative_features``, ``-patterns``,
    ``-tsne`` and for each trained transform ``-training-METHOD``. What a reading does not allow is
    left out: classes to compare where there is one, t-SNE of fewer than five clips.

    Args:
        reading: whole.
        folder: where they go; it is made if it is not there.

    Returns:
        The files, in the order in which they are best read.

    Raises:
        RequestError: a file of the reading is damaged.
        OSError: nothing can be written there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [draw_explained(reading, folder / "explained.png")]
    for layer in reading.layers:
        view = LayerView(reading, layer)
        start = quote(layer, safe="")
        for name, draw in OF_A_LAYER.items():
            drawn.append(draw(view, folder / f"{start}-{name}.png"))
        for method in reading.methods:
            path = folder / f"{start}-training-{method}.png"
            drawn.append(draw_training(view, method, path))
    return [path for path in drawn if path is not None]
