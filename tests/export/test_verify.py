"""A new process runs each file; what it says is judged beside what the model says."""

from __future__ import annotations

import functools
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf.errors import ExportError
from export import verification_worker, verify
from export.comparison import Judge, measure_accuracy, relative_errors
from export.formats import EXACT, INTEGER, TOLERANCES
from export.graphs import InferenceGraphs
from export.probes import make_probes
from export.reference import compute_reference
from export.saved_model import write_graphs
from export.source import UNKNOWN_CLASS, ClipSet, ExportSource
from export.verify import Artefact, Verifier, format_table, prepare_verification, run_worker
from tests.export.models import LABELS, CallsPython, break_weight, build_tiny, with_layer

NUM_SAMPLES = 4000
_LITERT = ("ai_edge_litert", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated")


def make_clips(count: int = 3, real: bool = True) -> ClipSet:
    rng = np.random.default_rng(1)
    return ClipSet(
        waveforms=(0.1 * rng.normal(size=(count, NUM_SAMPLES))).astype(np.float32),
        label_ids=np.arange(count) % len(LABELS),
        names=tuple(f"clip{number}" for number in range(count)),
        origin="a test",
        real=real,
    )


def make_source(model: Any, **options: Any) -> ExportSource:
    clips = make_clips(**options)
    return ExportSource(model, Path("tiny.keras"), "tiny", clips, clips)


@functools.lru_cache(1)
def make_verifier() -> Verifier:
    return prepare_verification(make_source(build_tiny()), NUM_SAMPLES, ("se2", "features"))


def make_judge(clips: ClipSet | None = None) -> Judge:
    verifier = make_verifier()
    return Judge(verifier.reference, verifier.probes, clips or verifier.source.evaluation, LABELS)


def perfect_answer() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a worker says of a TFLite file that computes just what Keras does."""
    reference = make_verifier().reference
    arrays = {key: value.copy() for key, value in reference.scores.items() if "fitted" not in key}
    arrays |= {f"activation/{key}": value for key, value in reference.activations.items()}
    facts = {
        "signatures": {"serving_default": {}, "activations": {}},
        "operators": {"CONV_2D": 4},
        "problems": {},
        "latency_ms": 1.0,
        "labels": list(LABELS),
        "sample_rate_hz": 8000,
    }
    return arrays, facts


class ProbesTest(tf.test.TestCase):
    def test_what_is_heard(self) -> None:
        probes = make_probes(8000, NUM_SAMPLES, make_clips(), num_clips=2)
        self.assertEqual(
            probes.names, ("silence", "noise", "tone", "clipped tone", "clip clip0", "clip clip1")
        )
        silence, noise, tone, clipped, *_ = probes.waveforms
        self.assertAllEqual(silence, np.zeros(NUM_SAMPLES))
        self.assertAllClose(noise.std(), 0.1, rtol=0.05)
        spectrum = np.abs(np.fft.rfft(tone))
        self.assertAllClose(spectrum.argmax() * 8000 / NUM_SAMPLES, 997.0, atol=2.0)
        self.assertEqual(clipped.max(), 32767 / 32768)
        self.assertEqual(clipped.min(), -1.0)
        # A sine of eight times the height lies beyond full scale for all but this share of time.
        inside = 2 / math.pi * math.asin(1 / 4)
        self.assertAllClose(np.mean(np.abs(clipped) < 0.999), inside, atol=0.01)

    def test_a_wav_file_holds_them_without_loss(self) -> None:
        probes = make_probes(8000, NUM_SAMPLES, make_clips(), num_clips=2)
        with tempfile.TemporaryDirectory() as folder:
            for waveform in probes.waveforms:
                verify.write_wav(f"{folder}/a.wav", waveform, 8000)
                found, rate_hz = soundfile.read(f"{folder}/a.wav", dtype="float32")
                self.assertEqual(rate_hz, 8000)
                self.assertAllEqual(found, waveform)


class ReferenceTest(tf.test.TestCase):
    def test_is_the_model_that_nothing_was_done_to(self) -> None:
        model, clips = build_tiny(), make_clips(11)
        probes = make_probes(8000, NUM_SAMPLES, clips, num_clips=1)
        reference = compute_reference(model, probes, clips, ("block1", "logits"))
        wanted = model(clips.waveforms)
        # Measured: 2e-7 of the norm, batches of another size.
        found = reference.scores["logits/evaluation"]
        self.assertLess(relative_errors(found, wanted["logits"]).max(), 1e-6)
        wanted = model.compute_activations(probes.waveforms, ["block1"])["block1"]
        self.assertLess(relative_errors(reference.activations["block1"], wanted).max(), 1e-6)
        self.assertEqual(reference.sounds["fitted/shorter"].shape, (1, 2400))
        self.assertEqual(reference.sounds["fitted/longer"].shape, (1, 5200))
        self.assertEqual(reference.features["probes"].shape[0], 5)

    def test_sensitivity_of_a_recording_is_a_rounding_error(self) -> None:
        reference = make_verifier().reference
        for part in ("evaluation", "fitted/shorter", "fitted/longer"):
            found = reference.measure_sensitivity(reference.sounds[part][0])
            self.assertEqual(set(found), {"logits", "se2", "features"})
            # Measured: 5e-7.
            self.assertLess(max(found.values()), 5e-6)
            self.assertGreater(min(found.values()), 0.0)

    def test_sensitivity_of_silence_is_that_of_the_weights(self) -> None:
        model, clips = build_tiny(), make_clips()
        before = model.get_weights()
        probes = make_probes(8000, NUM_SAMPLES, clips, num_clips=0)
        reference = compute_reference(model, probes, clips, ("features", "block1"))
        found = reference.measure_sensitivity(np.zeros(NUM_SAMPLES, np.float32))
        self.assertEqual(found["features"], 0.0)
        # Steps of 1.2e-7, of which the first layers add up nine.
        self.assertBetween(found["block1"], 3e-8, 1e-6)
        self.assertBetween(found["logits"], 3e-8, 1e-5)
        for value, old in zip(model.get_weights(), before, strict=True):
            self.assertAllEqual(value, old)

    def test_a_mixed_precision_is_asked_in_float32(self) -> None:
        exact = build_tiny()
        mixed = build_tiny(distribution={"precision": "mixed_bfloat16"})
        mixed.set_weights(exact.get_weights())
        clips = make_clips()
        probes = make_probes(8000, NUM_SAMPLES, clips, num_clips=0)
        found, wanted = (
            compute_reference(model, probes, clips, ()).scores["logits/evaluation"]
            for model in (mixed, exact)
        )
        self.assertAllEqual(found, wanted)
        rounded = mixed(clips.waveforms)["logits"]
        self.assertGreater(relative_errors(rounded, wanted).max(), 1e-4)

    def test_a_layer_that_is_not_finite_is_named(self) -> None:
        model = break_weight(build_tiny(), "block2_conv1", 3e38, everywhere=True)
        with self.assertRaisesRegex(ExportError, "not finite, first behind layer 'block2_conv1'"):
            prepare_verification(make_source(model), NUM_SAMPLES)


class JudgeTest(tf.test.TestCase):
    def judge(self, name: str, arrays: Any, facts: Any, **options: Any) -> dict[str, Any]:
        return make_judge(**options).judge(name, TOLERANCES[name], arrays, facts)

    def test_a_perfect_answer_passes(self) -> None:
        for name in ("tflite_float32", "tflite_float16", "tflite_int8"):
            entry = self.judge(name, *perfect_answer())
            self.assertEqual(entry["problems"], [])
            self.assertTrue(entry["passed"])
            self.assertEqual(entry["relative_error"], 0.0)
            self.assertEqual(entry["agreement"], 1.0)
            self.assertEqual(set(entry["activations"]), {"se2", "features"})

    def test_not_finite_comes_first(self) -> None:
        arrays, facts = perfect_answer()
        arrays["logits/probes"][2, 1] = np.nan
        facts["first_not_finite"] = {"sound": "tone", "place": "block2_conv1 (CONV_2D)"}
        entry = self.judge("tflite_int8", arrays, facts)
        self.assertEqual(
            entry["problems"],
            ["logits not finite for tone; the first that is not: block2_conv1 (CONV_2D)"],
        )
        self.assertFalse(entry["finite"])
        self.assertNotIn("relative_error", entry)

    def test_logits_that_are_off(self) -> None:
        arrays, facts = perfect_answer()
        arrays["logits/evaluation"][1] *= 1.0 + 5e-5
        entry = self.judge("tflite_float32", arrays, facts)
        self.assertLen(entry["problems"], 1)
        self.assertIn("5.0e-05 of their norm off for clip1, and 1e-05", entry["problems"][0])
        self.assertAllClose(entry["relative_error_of_worst_clip"], 5e-5, rtol=1e-2)
        self.assertFalse(entry["passed"])
        self.assertTrue(self.judge("tflite_float16", arrays, facts)["passed"])

    def test_a_tone_is_excused_by_its_own_rounding_and_noise_is_not(self) -> None:
        reference, names = make_verifier().reference, make_verifier().probes.names
        for sound, excused in (("tone", True), ("noise", False)):
            row = names.index(sound)
            # The front end of this model has no top_db, so nothing hides what is between lines.
            moved = reference.measure_sensitivity(reference.sounds["probes"][row])["logits"]
            self.assertEqual(moved > 1e-5, excused)
            arrays, facts = perfect_answer()
            arrays["logits/probes"][row] *= 1.0 + (1.5 * moved if excused else 1.5e-5)
            entry = self.judge("tflite_float32", arrays, facts)
            self.assertEqual(entry["passed"], excused)
            self.assertEqual(
                [item["sound"] for item in entry.get("explained_by_rounding", [])],
                [sound] if excused else [],
            )
            arrays["logits/probes"][row] *= 1.0 + 1e-3
            self.assertFalse(self.judge("tflite_float32", arrays, facts)["passed"])

    def test_activations_that_are_off_or_missing(self) -> None:
        arrays, facts = perfect_answer()
        arrays["activation/se2"] = arrays["activation/se2"] * 1.001
        del arrays["activation/features"]
        problems = self.judge("tflite_float32", arrays, facts)["problems"]
        self.assertLen(problems, 2)
        self.assertIn("activation 'se2': 1.0e-03 of their norm off", problems[0])
        self.assertIn("activation 'features' is missing", problems[1])

    def test_classes_that_change(self) -> None:
        arrays, facts = perfect_answer()
        arrays["logits/evaluation"][0] = np.roll(arrays["logits/evaluation"][0], 1)
        arrays["logits/probes"][0] = np.roll(arrays["logits/probes"][0], 1)
        entry = self.judge("tflite_int8", arrays, facts)
        self.assertAllClose(entry["agreement"], 2 / 3)
        self.assertIn("first class of 1 of 3 clips", entry["problems"][0])
        self.assertIn("99% must agree", entry["problems"][0])
        self.assertEqual(entry["probes_of_another_class"], ["silence"])
        self.assertEqual(entry["clips_of_another_class"], ["clip0"])
        generated = self.judge("tflite_int8", arrays, facts, clips=make_clips(real=False))
        self.assertIn("95% must agree", generated["problems"][0])

    def test_operators_that_no_interpreter_has(self) -> None:
        arrays, facts = perfect_answer()
        facts["operators"] = {"CONV_2D": 1, "READ_VARIABLE": 2, "custom:FlexErf": 1}
        problems = self.judge("tflite_float32", arrays, facts)["problems"]
        self.assertEqual(
            problems,
            [
                "holds the operator READ_VARIABLE, so that a weight was not made a constant",
                "holds the operator FlexErf, which is none of TFLite's own",
            ],
        )

    def test_what_a_file_says_of_itself(self) -> None:
        arrays, facts = perfect_answer()
        facts["labels"] = [*LABELS[:2], "other"]
        facts["sample_rate_hz"] = 16000
        self.assertEqual(
            self.judge("tflite_float32", arrays, facts)["problems"],
            [
                "the labels in it are not the model's",
                "it says 16000 Hz, and the model's rate is 8000",
            ],
        )
        facts["problems"]["metadata"] = "the file has none"
        problems = self.judge("tflite_float32", arrays, facts)["problems"]
        self.assertEqual(problems, ["metadata: the file has none"])

    def test_accuracy_of_known_classes_alone(self) -> None:
        clips = make_clips(4)
        logits = np.eye(3)[[0, 1, 2, 2]]
        clips.label_ids[:] = [0, 2, UNKNOWN_CLASS, 2]
        self.assertAllClose(measure_accuracy(logits, clips), 2 / 3)
        clips.label_ids[:] = UNKNOWN_CLASS
        self.assertIsNone(measure_accuracy(logits, clips))


class WorkerTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def verify(self, artefact: Artefact, **options: Any) -> dict[str, Any]:
        verifier = make_verifier()
        for name, value in options.items():
            object.__setattr__(verifier, name, value)
        return verifier.verify([artefact], report=lambda line: None)

    def test_a_saved_model_passes_in_a_new_process(self) -> None:
        graphs = InferenceGraphs(build_tiny(), ("se2", "features"))
        path = write_graphs(graphs, self.folder / "model")
        verification = self.verify(Artefact("saved_model", path))
        entry = verification["formats"]["saved_model"]
        self.assertEqual(entry["problems"], [])
        self.assertTrue(verification["passed"])
        self.assertEqual(set(entry["other_signatures"]), {"embedding", "wav_bytes", "classify"})
        self.assertGreater(entry["latency_ms"], 0.0)
        self.assertGreater(entry["size_bytes"], 10_000)
        self.assertEqual(set(entry["activations"]), {"se2", "features"})
        self.assertIn("passed", format_table(verification))

    def test_python_inside_is_missing_in_a_new_process(self) -> None:
        model = with_layer(build_tiny(), CallsPython(name="odd_layer"))
        path = write_graphs(InferenceGraphs(model), self.folder / "model")
        verification = self.verify(Artefact("saved_model", path))
        entry = verification["formats"]["saved_model"]
        self.assertFalse(verification["passed"])
        self.assertIn("serving_default: ", entry["problems"][0])
        self.assertIn("Could not find callback", entry["problems"][0])
        self.assertIn("/odd_layer", entry["problems"][0])
        self.assertIn("FAILED", format_table(verification))

    def test_a_file_that_cannot_be_run(self) -> None:
        path = self.folder / "broken.tflite"
        path.write_bytes(b"no flatbuffer at all")
        entry = self.verify(Artefact("tflite_float32", path))["formats"]["tflite_float32"]
        self.assertFalse(entry["passed"])
        self.assertIn("cannot be run in a new process", entry["problems"][0])

    def test_a_process_that_dies(self) -> None:
        job = {"result": str(self.folder / "result.npz")}
        with mock.patch.object(verify, "_WORKER", "no_such_module"):
            arrays, facts = run_worker(job, self.folder)
        self.assertEqual(arrays, {})
        self.assertIn("ended with code 1", facts["failed"])
        self.assertIn("no_such_module", facts["failed"])

    def test_the_first_tensor_that_is_not_finite_is_named(self) -> None:
        def compute(waveform: Any) -> dict[str, Any]:
            with tf.name_scope("sound_layer"):
                x = 2.0 * waveform
            with tf.name_scope("sick_layer"):
                x = tf.math.log(x)
            with tf.name_scope("later_layer"):
                x = tf.reshape(tf.reduce_sum(x) * tf.constant([1.0, 2.0, 3.0]), [1, 3])
            return {"logits": x, "probabilities": tf.nn.softmax(x)}

        module = tf.Module()
        specification = tf.TensorSpec([1, NUM_SAMPLES], tf.float32, name="waveform")
        module.run = tf.function(compute, [specification])
        tf.saved_model.save(
            module, str(self.folder / "sick"), signatures={"serving_default": module.run}
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(str(self.folder / "sick"))
        path = self.folder / "sick.tflite"
        path.write_bytes(converter.convert())
        entry = self.verify(Artefact("tflite_float32", path))["formats"]["tflite_float32"]
        metadata, problem = entry["problems"]
        self.assertIn("has no metadata", metadata)
        self.assertStartsWith(problem, "logits not finite for silence")
        self.assertIn("sick_layer", problem)
        self.assertNotIn("later_layer", problem)
        self.assertIn("LOG", entry["operators"])
        # TensorFlow's own interpreter does the same where LiteRT is not installed.
        with mock.patch.dict("sys.modules", dict.fromkeys(_LITERT)):
            silence = np.zeros((1, NUM_SAMPLES), np.float32)
            place = verification_worker._find_non_finite_tensor(str(path), silence)
            operators = verification_worker.list_operators(path.read_bytes())
        self.assertIn("sick_layer", place)
        self.assertEqual(operators, entry["operators"])

    def test_tensorflow_s_own_operators_are_seen(self) -> None:
        function = tf.function(
            lambda x: {"y": tf.linalg.inv(x)}, [tf.TensorSpec([4, 4], tf.float32, name="x")]
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()]
        )
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
        operators = verification_worker.list_operators(converter.convert())
        self.assertEqual(operators, {"custom:FlexMatrixInverse": 1})

    def test_integers_become_the_numbers_that_they_mean(self) -> None:
        detail = {"quantization": (0.5, 3), "dtype": np.int8}
        values = np.array([0.0, 1.0, -2.0, 1000.0], np.float32)
        steps = verification_worker._quantize(values, detail)
        self.assertEqual(steps.tolist(), [3, 5, -1, 127])
        back = verification_worker._dequantize(steps, detail)
        self.assertEqual(back.tolist(), [0.0, 1.0, -2.0, 62.0])


def test_tolerances_are_what_the_documentation_says() -> None:
    assert TOLERANCES["saved_model"] == TOLERANCES["tflite_float32"] == EXACT
    assert EXACT.logits == 1e-5
    assert TOLERANCES["tflite_float16"].logits == 1e-2
    assert INTEGER.agreement == 0.99
    assert all(TOLERANCES[f"tflite_{kind}"] == INTEGER for kind in ("dynamic", "int8"))
