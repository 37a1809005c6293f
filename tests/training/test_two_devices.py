"""MirroredStrategy on two logical CPU devices, and XLA, in a process of their own.

Devices are fixed once for a process, and so are operations that repeat bit by bit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

_SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
from esc_tf.training.devices import build_devices
from esc_tf.training.experiment import train_experiment
from esc_tf.training.run_directory import RunDirectory
from esc_tf.config import DistributionConfig
from tests.tiny import tiny_experiment

folder = sys.argv[1]
# Batch statistics are taken per device and dropout draws differ; without them the mathematics
# of one and of two devices is the same.
sections = dict(
    model={"head": {"dropout": 0.0}},
    augment={"mixup": None},
    recipe={"epochs": 2, "schedule": {"name": "constant"},
            "optimizer": {"name": "sgd", "learning_rate": 0.05}},
)
import keras
result = {}
from esc_tf.training import experiment as module
plain_build = module.build_classifier
def build_without_batch_statistics(*arguments):
    model = plain_build(*arguments)
    for layer in model.backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return model
for name, distribution in {
    "two": {"strategy": "mirrored", "logical_cpu_devices": 2},
    "one": {"strategy": "one_device"},
}.items():
    for frozen in (True, False):
        module.build_classifier = build_without_batch_statistics if frozen else plain_build
        distribution["deterministic"] = False  # as XLA below needs it
        run = RunDirectory(f"{folder}/{name}{frozen}")
        trained = train_experiment(
            tiny_experiment(folder + "/cache", distribution=distribution, **sections), run,
            report=lambda line: None)
        facts = run.read_resolved()[1]
        result[f"{name}_{'frozen' if frozen else 'plain'}"] = {
            "losses": [line["loss"] for line in trained.history],
            "validation": [line["validation_loss"] for line in trained.history],
            "test_clips": trained.metrics["test"]["num_clips"],
            "distribution": facts["distribution"],
        }
module.build_classifier = plain_build
for xla in (False, True):
    trained = train_experiment(
        tiny_experiment(folder + "/cache", model={"head": {"dropout": 0.0}}, recipe={"epochs": 2},
                        distribution={"xla": xla, "deterministic": False}),
        RunDirectory(f"{folder}/xla{xla}"), report=lambda line: None)
    result[f"xla_{xla}"] = [line["loss"] for line in trained.history]
print("RESULT" + json.dumps(result))
"""


class TwoDevicesTest(tf.test.TestCase):
    def test_two_devices_train_like_one(self) -> None:
        folder = tempfile.mkdtemp()
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, folder],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        result = json.loads(done.stdout.split("RESULT", 1)[1])
        two, one = result["two_frozen"], result["one_frozen"]
        self.assertEqual(two["distribution"]["num_replicas"], 2)
        self.assertEqual(two["distribution"]["devices"], ["CPU:0", "CPU:1"])
        self.assertEqual(one["distribution"]["num_replicas"], 1)
        # Measured relative difference: about 1e-7; float32 sums in another order.
        self.assertAllClose(two["losses"], one["losses"], rtol=1e-5)
        self.assertAllClose(two["validation"], one["validation"], rtol=1e-5)
        # With batch statistics it trains too; every clip is evaluated once.
        for name in ("two_plain", "one_plain"):
            run = result[name]
            self.assertEqual(run["test_clips"], 20)
            self.assertLess(run["losses"][-1], run["losses"][0])
        # The same step compiled by XLA. Measured relative difference: about 1e-6.
        self.assertAllClose(result["xla_True"], result["xla_False"], rtol=1e-4)


if __name__ == "__main__":
    tf.test.main()
