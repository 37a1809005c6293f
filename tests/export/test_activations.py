"""Five activations of each kind of network, by every way out of the house: the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from export.formats import EXACT
from export.graphs import SCORES, InferenceGraphs
from export.saved_model import write_graphs
from export.tflite import convert_tflite
from serving.rest.decimals import format_decimals
from tests.export.converted import make_clips, relative_errors, run_file
from tests.export.models import build_tiny
from tests.models.random_weights import assign_random_weights

NETWORKS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "mobilenet_v3": (
        {"width": 0.2, "head": {"hidden_units": [8], "activation": "hard_swish"}},
        ("block5", "se4", "block11", "final", "embedding"),
    ),
    "se_cnn": (
        {"block_filters": [8, 16], "convs_per_block": 1, "squeeze_excitation_blocks": [2]},
        ("features", "block1", "block2", "se2", "embedding"),
    ),
    "mobilenet_student": (
        {"width": 0.5, "squeeze_excitation": True},
        ("stem", "block2", "se5", "final", "embedding"),
    ),
}
# Of the norm of a clip's values. Measured: PLACEHOLDER.
TOLERANCE = 1e-5


def send_as_json(values: np.ndarray) -> np.ndarray:
    """What a client of the REST server reads: numbers as text, row by row."""
    rows = values.reshape(len(values), -1)
    text = "[" + ",".join(f"[{','.join(format_decimals(row))}]" for row in rows) + "]"
    return np.array(json.loads(text), np.float32).reshape(values.shape)


class ActivationsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*NETWORKS)
    def test_are_keras_s_by_every_way(self, network: str) -> None:
        options, names = NETWORKS[network]
        model = build_tiny(model={"name": network, **options})
        assign_random_weights(model)
        clips = make_clips(2)
        wanted = model.compute_activations(clips, (*names, *SCORES))
        graphs = InferenceGraphs(model, names)
        folder = write_graphs(graphs, Path(self.create_tempdir().full_path) / "model")
        loaded = tf.saved_model.load(str(folder))
        served = loaded.signatures["activations"](waveform=tf.constant(clips))
        found = {
            "SavedModel": {name: value.numpy() for name, value in served.items()},
            "TFLite": run_file(convert_tflite(graphs, "float32"), clips, "activations"),
        }
        found["JSON"] = {name: send_as_json(value) for name, value in found["SavedModel"].items()}
        for way, values in found.items():
            self.assertEqual(set(values), {*names, *SCORES}, msg=way)
            for name, value in wanted.items():
                self.assertEqual(values[name].dtype, np.float32)
                error = relative_errors(values[name], value).max()
                # Of the norm. Measured: 1.4e-5 (`final` of mobilenet_v3, one place of a feature map
                # that no mean follows), all others 1.3e-6 at most.
                limit = EXACT.logits if name in SCORES else EXACT.activations
                self.assertLess(error, limit, msg=f"{name} by {way}")
        # A float32 survives being printed, so that not even the last bit is lost on the way.
        for name, value in found["JSON"].items():
            self.assertAllEqual(value, found["SavedModel"][name])


if __name__ == "__main__":
    tf.test.main()
