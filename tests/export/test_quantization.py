"""What is rounded in a TFLite file, and what is not."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.lite.python import schema_py_generated as schema

from export.calibration import calibrate
from export.graphs import InferenceGraphs
from export.tflite import convert_tflite
from tests.export.converted import (
    convert_tiny,
    list_types,
    make_clips,
    read,
    relative_errors,
    run_file,
)
from tests.export.models import build_tiny

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
FLOATS = {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16}


def list_weights(content: bytes, *operators: str) -> list[tuple[int, int, int]]:
    """(type, number of values, length of the scale) of the constant inputs of some operators."""
    model = read(content)
    (graph,) = model.subgraphs
    wanted = {getattr(schema.BuiltinOperator, name) for name in operators}
    found = []
    for step in graph.operators:
        if model.operatorCodes[step.opcodeIndex].builtinCode in wanted:
            for place in step.inputs:
                tensor = graph.tensors[place]
                data = model.buffers[tensor.buffer].data
                if data is not None and len(data):
                    scale = tensor.quantization.scale if tensor.quantization else None
                    count = int(np.prod(tensor.shape))
                    found.append((tensor.type, count, 0 if scale is None else len(scale)))
    return found


def build_mobile_net() -> InferenceGraphs:
    model = build_tiny(
        model={
            "name": "mobilenet_v3",
            "width": 0.2,
            "head": {"hidden_units": [8], "activation": "hard_swish"},
        }
    )
    return InferenceGraphs(model, ("features", "block3", "embedding"))


class WeightRoundingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("float16", schema.TensorType.FLOAT16), ("dynamic", schema.TensorType.INT8)
    )
    def test_large_weights_alone(self, kind: str, wanted: int) -> None:
        content = convert_tiny(kind)
        weights = list_weights(content, *CONVOLUTIONS, "DEQUANTIZE")
        rounded = [count for type_, count, _ in weights if type_ == wanted]
        kept = [count for type_, count, _ in weights if type_ == schema.TensorType.FLOAT32]
        self.assertEqual(rounded, [3 * 3 * 8 * 16])  # of the second block
        self.assertLess(max(kept), 1024)

    def test_one_scale_for_each_channel(self) -> None:
        weights = list_weights(convert_tiny("dynamic"), "CONV_2D")
        self.assertIn((schema.TensorType.INT8, 3 * 3 * 8 * 16, 16), weights)

    def test_weights_beyond_float16_stay(self) -> None:
        model = build_tiny()
        kernel = model.backbone.get_layer("block2_conv1").kernel
        values = kernel.numpy()
        values[0, 0, 0, 0] = 1e6
        kernel.assign(values)
        content = convert_tflite(InferenceGraphs(model), "float16")
        self.assertNotIn("DEQUANTIZE", {name for name, _ in list_types(content)})
        clips = make_clips(2)
        found = run_file(content, clips)["logits"]
        self.assertLess(relative_errors(found, model(clips)["logits"]).max(), 1e-5)


class IntegersTest(tf.test.TestCase, parameterized.TestCase):
    def test_front_end_and_scores_in_float(self) -> None:
        types = list_types(convert_tiny("int8"))
        names = [name for name, _ in types]
        start, end = names.index("QUANTIZE"), len(names) - names[::-1].index("DEQUANTIZE")
        self.assertIn("LOG", names[:start])
        self.assertEmpty({"INT8"} & {type_ for _, type_ in types[:start]})
        network = [pair for pair in types[start:end] if pair[0] in CONVOLUTIONS]
        self.assertEqual({type_ for _, type_ in network}, {"INT8"})
        self.assertEqual(types[-1], ("SOFTMAX", "FLOAT32"))

    def test_integers_alone(self) -> None:
        (graph,) = (model := read(convert_tiny("int8_backbone"))).subgraphs
        self.assertEmpty(FLOATS & {tensor.type for tensor in graph.tensors})
        for place in (*graph.inputs, *graph.outputs):
            self.assertEqual(graph.tensors[place].type, schema.TensorType.INT8)
        self.assertLen(model.subgraphs, 1)

    def test_hard_swish_in_float_except_for_microcontrollers(self) -> None:
        graphs, clips = build_mobile_net(), make_clips(8)
        phone = set(list_types(convert_tflite(graphs, "int8", clips)))
        self.assertNotIn(("HARD_SWISH", "INT8"), phone)
        for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "MEAN"):
            self.assertIn((name, "INT8"), phone)
        small = set(list_types(convert_tflite(graphs, "int8_backbone", clips)))
        self.assertEqual({type_ for _, type_ in small}, {"INT8"})
        self.assertIn(("HARD_SWISH", "INT8"), small)

    def test_kernels_of_the_sizes_that_interpreters_are_fast_for(self) -> None:
        model = read(convert_tflite(build_mobile_net(), "float32"))
        (graph,) = model.subgraphs
        code = schema.BuiltinOperator.DEPTHWISE_CONV_2D
        sizes = {
            tuple(graph.tensors[step.inputs[1]].shape[1:3])
            for step in graph.operators
            if model.operatorCodes[step.opcodeIndex].builtinCode == code
        }
        self.assertEqual(sizes, {(3, 3), (5, 5)})

    def test_silence_alone_gives_ranges(self) -> None:
        silence = np.zeros((2, 4_000), np.float32)
        content = convert_tflite(InferenceGraphs(build_tiny()), "int8", silence)
        for name, values in run_file(content, make_clips(3)).items():
            self.assertTrue(np.isfinite(values).all(), msg=name)


class CalibrateTest(tf.test.TestCase):
    def make_network(self) -> bytes:
        """Features → logits by a convolution, with ranges as the converter leaves them."""
        specification = tf.TensorSpec([1, 20, 10, 1], tf.float32, "features")

        @tf.function(input_signature=[specification])
        def compute(features: tf.Tensor) -> dict[str, tf.Tensor]:
            maps = tf.nn.conv2d(features, tf.ones([1, 1, 1, 2]), 1, "SAME")
            return {"logits": tf.reduce_max(maps, axis=[1, 2])}

        module = tf.Module()
        module.compute = compute
        folder = self.create_tempdir().full_path
        tf.saved_model.save(module, folder, signatures={"serving_default": compute})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        ones = np.ones((1, 20, 10, 1), np.float32)
        converter.representative_dataset = lambda: iter([{"features": ones}])
        converter._experimental_calibrate_only = True
        return converter.convert()

    def test_outliers_of_maps_are_cut_off_and_those_of_vectors_are_not(self) -> None:
        features = np.random.default_rng(0).uniform(-1.0, 1.0, (400, 20, 10, 1))
        features[7, 3, 4, 0] = 1_000.0
        network = calibrate(self.make_network(), features.astype(np.float32))
        self.assertEqual(network.logits.shape, (32, 2))
        self.assertLen(network.steps, len(list_types(network.content)))
        (graph,) = read(network.content).subgraphs
        ranges = {
            len(tensor.shape): (tensor.quantization.min[0], tensor.quantization.max[0])
            for tensor in graph.tensors
            if tensor.quantization is not None and tensor.quantization.max is not None
        }
        self.assertAllClose(ranges[4], (-1.0, 1.0), atol=1e-3)
        self.assertAllClose(ranges[2], (0.0, 1_000.0))


if __name__ == "__main__":
    tf.test.main()
