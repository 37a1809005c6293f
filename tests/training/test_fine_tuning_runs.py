"""Fine-tuning: whole runs, which after their first checkpoint stand on their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from esc_tf.config import Experiment
from esc_tf.errors import RequestError
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.experiment import describe_start
from esc_tf.training.run_directory import RunDirectory
from tests.training.test_experiment import TrainingTestCase, without_times
from tests.training.test_fine_tuning import is_equal, read_weights


class TrainingTest(TrainingTestCase):
    """Whole runs that begin with the weights of another run."""

    def setUp(self) -> None:
        super().setUp()
        self.train("source", self.experiment(recipe={"epochs": 1}))
        self.source = self.folder / "source"

    def tuned(self, *, recipe: dict[str, Any] | None = None, **options: Any) -> Experiment:
        options = {"source": str(self.source), **options}
        return self.experiment(recipe={"epochs": 3, **(recipe or {}), "fine_tuning": options})

    def weights(self, name: str) -> dict[str, list[np.ndarray]]:
        return read_weights(load_classifier(self.folder / name))

    def test_frozen_layers_stay_bit_by_bit_and_the_others_move(self) -> None:
        experiment = self.tuned(frozen=["block1*"], recipe={"select": "last"})
        self.train("run", experiment)
        before, after = self.weights("source"), self.weights("run")
        for name, values in before.items():
            self.assertEqual(is_equal(values, after[name]), name.startswith("block1"), name)
        # The model that is stored trains wholly again.
        model = load_classifier(self.folder / "run")
        self.assertTrue(all(layer.trainable for layer in model.backbone.layers))
        facts = RunDirectory(self.folder / "run").read_resolved()[1]["fine_tuning"]
        self.assertEqual(facts["source"], str(self.source / "model.keras"))
        self.assertRegex(facts["sha256"], "^[0-9a-f]{64}$")

    def test_kept_statistics_stay_while_scales_train(self) -> None:
        experiment = self.tuned(freeze_batch_norm=True, recipe={"select": "last"})
        self.train("run", experiment)
        before, after = self.weights("source"), self.weights("run")
        for name in ("block1_bn1", "block2_bn1"):
            gamma, beta, mean, variance = (
                np.array_equal(*pair) for pair in zip(before[name], after[name], strict=True)
            )
            self.assertEqual((gamma, beta, mean, variance), (False, False, True, True))

    def test_rates_are_multiplied(self) -> None:
        # One step of plain gradient descent without anything that draws.
        recipe = {
            "epochs": 1,
            "batch_size": 60,
            "select": "last",
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": False},
            "schedule": {"name": "constant"},
        }
        moved = []
        for name, rates in (("plain", {}), ("slow", {"*": 0.25, "logits": 1.0})):
            self.train(name, self.tuned(learning_rates=rates, recipe=recipe))
            before, after = self.weights("source"), self.weights(name)
            moved.append({key: after[key][0] - before[key][0] for key in before})
        plain, slow = moved
        self.assertAllEqual(slow["logits"], plain["logits"])
        for name in ("block1_conv1", "block2_bn1", "head_dense1"):
            self.assertGreater(np.abs(plain[name]).max(), 1e-4)
            self.assertAllClose(slow[name], 0.25 * plain[name], rtol=1e-3, atol=1e-7)

    def test_resume_needs_no_source_and_goes_on_bit_by_bit(self) -> None:
        options = {
            "frozen": ["block1_conv1"],
            "learning_rates": {"block2*": 0.1},
            "freeze_batch_norm": True,
        }
        whole = self.train("whole", self.tuned(**options))

        class Interrupt(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if epoch == 1:
                    raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.train("parts", self.tuned(**options), callbacks=[Interrupt()])
        shutil.rmtree(self.source)
        run = RunDirectory(self.folder / "parts")
        self.assertIn("1 of 8 layers", describe_start(self.tuned(**options), run, resume=True))
        resumed = self.train("parts", self.tuned(**options), resume=True)
        self.assertEqual(without_times(resumed.history), without_times(whole.history))
        for name, values in self.weights("whole").items():
            self.assertTrue(is_equal(values, self.weights("parts")[name]), name)

    def test_without_a_checkpoint_resume_begins_with_the_same_source_or_not_at_all(self) -> None:
        class Interrupt(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                raise KeyboardInterrupt

        whole = self.train("whole", self.tuned())
        with self.assertRaises(KeyboardInterrupt):
            self.train("parts", self.tuned(), callbacks=[Interrupt()])
        file, kept = self.source / "model.keras", self.folder / "kept.keras"
        shutil.copy(file, kept)
        load_classifier(file).save(file)
        with self.assertRaisesRegex(RequestError, "is not what it was when the run began"):
            self.train("parts", self.tuned(), resume=True)
        shutil.copy(kept, file)
        resumed = self.train("parts", self.tuned(), resume=True)
        self.assertEqual(without_times(resumed.history), without_times(whole.history))

    def test_a_request_that_cannot_be_met_leaves_nothing_behind(self) -> None:
        for options in ({"source": "nowhere.keras"}, {"frozen": ["blok*"]}):
            with self.assertRaises(RequestError):
                self.train("run", self.tuned(**options))
            self.assertFalse((self.folder / "run").exists())

    def test_a_dry_run_says_what_would_be_taken(self) -> None:
        run = RunDirectory(self.folder / "run")
        text = describe_start(self.tuned(frozen=["block1*"]), run)
        self.assertRegex(text, r"weights from \S*source \(SHA-256 .*; nothing is fresh")
        self.assertIn("fine-tuning: 2 of 8 layers with weights are frozen, 104 parameters", text)


_TWO_DEVICES = """
import json, sys
import keras, tensorflow as tf
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from esc_tf.tasks.classifier import load_classifier
from tests.tiny import tiny_experiment

folder = sys.argv[1]
result = {}
for name, distribution in {
    "source": {"strategy": "mirrored", "logical_cpu_devices": 2},
    "two": {"strategy": "mirrored", "logical_cpu_devices": 2},
    "one": {"strategy": "one_device"},
}.items():
    # Kept statistics and no dropout: the mathematics of one and of two devices is the same.
    recipe = {"epochs": 2, "schedule": {"name": "constant"}, "select": "last",
              "optimizer": {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.1}}
    if name != "source":
        recipe["fine_tuning"] = {
            "source": f"{folder}/source", "frozen": ["block1_conv1"], "freeze_batch_norm": True,
            "learning_rates": {"*": 0.1, "logits": 1.0}}
    sections = dict(model={"head": {"dropout": 0.0}}, augment={"mixup": None}, recipe=recipe,
                    distribution=distribution)
    run = RunDirectory(f"{folder}/{name}")
    trained = train_experiment(tiny_experiment(folder + "/cache", **sections), run,
                               report=lambda line: None)
    result[name] = [line["loss"] for line in trained.history]
    model = load_classifier(run.path)
    result[name + "_moved"] = {
        key: keras.ops.convert_to_numpy(model.backbone.get_layer(key).weights[0]).sum().item()
        for key in ("block1_conv1", "block2_conv1")}
print("RESULT" + json.dumps(result))
"""


def test_two_devices_fine_tune_like_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT", 1)[1])
    # Measured: losses 3e-8 apart, sums of weights 1e-7.
    assert result["two"] == pytest.approx(result["one"], rel=1e-5)
    moved = {name: result[f"{name}_moved"] for name in ("source", "one", "two")}
    for name in ("one", "two"):
        assert moved[name]["block1_conv1"] == moved["source"]["block1_conv1"]
        assert moved[name]["block2_conv1"] != moved["source"]["block2_conv1"]
    assert moved["two"]["block2_conv1"] == pytest.approx(moved["one"]["block2_conv1"], rel=1e-5)


if __name__ == "__main__":
    tf.test.main()
