"""Whole trainings on the tiny experiment: repeatable, resumable, the same on every strategy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import Experiment
from esc_tf.errors import DataError, TrainingError
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.experiment import RunResult, train_experiment
from esc_tf.training.run_directory import RunDirectory
from tests.tiny import tiny_experiment

_TIMES = ("seconds", "clips_per_s")


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log lines without what no seed decides."""
    return [{k: v for k, v in line.items() if k not in _TIMES} for line in history]


class TrainingTestCase(tf.test.TestCase, parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())

    def experiment(self, **sections: Any) -> Experiment:
        return tiny_experiment(str(self.folder / "cache"), **sections)

    def train(self, name: str, experiment: Experiment, **options: Any) -> RunResult:
        return train_experiment(
            experiment, RunDirectory(self.folder / name), report=lambda line: None, **options
        )

    def logged(self, name: str) -> list[dict[str, Any]]:
        text = (self.folder / name / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


class RunTest(TrainingTestCase):
    def test_leaves_a_complete_run_directory(self) -> None:
        result = self.train("run", self.experiment(recipe={"tensorboard": True}))
        run = self.folder / "run"
        stored, facts = RunDirectory(run).read_resolved()
        self.assertEqual(stored, self.experiment(recipe={"tensorboard": True}))
        self.assertLen(facts["label_names"], 10)
        self.assertEqual(facts["versions"]["tensorflow"], tf.__version__)
        self.assertEqual(facts["distribution"]["devices"], ["CPU:0"])
        self.assertEqual([line["epoch"] for line in self.logged("run")], [1, 2, 3, 4])
        metrics = json.loads((run / "metrics.json").read_text())
        self.assertEqual(metrics, json.loads(json.dumps(result.metrics)))
        self.assertEqual(metrics["clips"], {"train": 60, "validation": 20, "test": 20})
        self.assertEqual(metrics["test"]["num_clips"], 20)
        best = max(result.history, key=lambda line: line["validation_accuracy"])
        self.assertEqual(metrics["selected_epoch"], best["epoch"])
        # The stored model is the selected one: it repeats that epoch's validation accuracy.
        self.assertAllClose(metrics["validation"]["accuracy"], best["validation_accuracy"])
        self.assertTrue(any((run / "tensorboard").iterdir()))
        left = sorted(path.name for path in (run / "checkpoints").iterdir())
        self.assertEqual(left, ["best.npz", "epoch_0003.npz", "epoch_0004.npz"])
        model = load_classifier(run)
        outputs = model(np.zeros((1, 4000), np.float32))
        self.assertAllClose(np.sum(outputs["probabilities"]), 1.0)
        self.assertIsNone(getattr(model, "optimizer", None))

    def test_same_seed_same_numbers_and_another_seed_others(self) -> None:
        first = self.train("a", self.experiment())
        second = self.train("b", self.experiment())
        other = self.train("c", self.experiment(seed=1))
        self.assertEqual(without_times(first.history), without_times(second.history))
        self.assertNotEqual(first.history[0]["loss"], other.history[0]["loss"])
        weights_a, weights_b = (load_classifier(self.folder / n).get_weights() for n in "ab")
        for mine, theirs in zip(weights_a, weights_b, strict=True):
            self.assertAllEqual(mine, theirs)

    def test_learns(self) -> None:
        plain = {"noise": None, "time_shift": None, "frequency_mask": None, "mixup": None}
        experiment = self.experiment(
            augment=plain,
            model={"head": {"dropout": 0.0}},
            recipe={
                "epochs": 12,
                "optimizer": {"name": "adam", "learning_rate": 0.01},
                "schedule": {"name": "constant"},
            },
            data={"clips_per_class_and_fold": 4},
        )
        history = self.train("run", experiment).history
        self.assertLess(history[-1]["loss"], 0.7 * history[0]["loss"])
        # Ten classes: chance is 0.1.
        self.assertGreater(history[-1]["accuracy"], 0.5)

    def test_resume_continues_as_if_never_stopped(self) -> None:
        whole = self.train("whole", self.experiment())

        class StopAfterTwo(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if epoch == 2:
                    raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.train("parts", self.experiment(), callbacks=[StopAfterTwo()])
        self.assertLen(self.logged("parts"), 2)
        resumed = self.train("parts", self.experiment(), resume=True)
        self.assertEqual(without_times(resumed.history), without_times(whole.history))
        self.assertEqual(without_times(self.logged("parts")), without_times(whole.history))
        self.assertEqual(resumed.metrics["test"], whole.metrics["test"])
        for mine, theirs in zip(
            load_classifier(self.folder / "parts").get_weights(),
            load_classifier(self.folder / "whole").get_weights(),
            strict=True,
        ):
            self.assertAllEqual(mine, theirs)

    def test_finished_run_can_be_lengthened(self) -> None:
        short = self.train("run", self.experiment(recipe={"epochs": 2}))
        longer = self.train("run", self.experiment(recipe={"epochs": 3}), resume=True)
        self.assertEqual(longer.history[:2], short.history)
        self.assertLen(longer.history, 3)
        facts = RunDirectory(self.folder / "run").read_resolved()[1]
        self.assertLen(facts["resumed"], 1)

    def test_early_stopping_and_plateau_act_and_their_counts_survive(self) -> None:
        options = {
            "epochs": 8,
            "optimizer": {"name": "sgd", "learning_rate": 1e-12, "momentum": 0.0},
            "schedule": {
                "name": "reduce_on_plateau",
                "monitor": "validation_accuracy",
                "patience": 2,
                "factor": 0.5,
                "min_learning_rate": 0.0,
            },
            "early_stopping": {"patience": 5},
        }

        # Nothing moves but the batch statistics; take them away and accuracy stands still.
        class Freeze(keras.callbacks.Callback):
            def on_train_begin(self, logs: Any = None) -> None:
                for layer in self.model.backbone.layers:
                    if isinstance(layer, keras.layers.BatchNormalization):
                        layer.trainable = False

        class Interrupt(Freeze):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if epoch == 3:
                    raise KeyboardInterrupt

        whole = self.train("whole", self.experiment(recipe=options), callbacks=[Freeze()])
        rates = [line["learning_rate"] for line in whole.history]
        self.assertAllClose(rates, [1e-12] * 3 + [5e-13] * 2 + [2.5e-13], rtol=1e-6, atol=0.0)
        with self.assertRaises(KeyboardInterrupt):
            self.train("parts", self.experiment(recipe=options), callbacks=[Interrupt()])
        parts = self.train(
            "parts", self.experiment(recipe=options), callbacks=[Freeze()], resume=True
        )
        self.assertEqual(without_times(parts.history), without_times(whole.history))

    def test_nan_loss_names_step_and_clips_and_keeps_the_last_checkpoint(self) -> None:
        class Spoil(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                if epoch == 2:
                    bias = self.model.head.get_layer("logits").bias
                    bias.assign(np.full(bias.shape, np.nan))

        with self.assertRaisesRegex(TrainingError, r"nan in epoch 3, step 1 \(clips: (\S+, ){15}"):
            self.train("run", self.experiment(), callbacks=[Spoil()])
        self.assertLen(self.logged("run"), 2)
        resumed = self.train("run", self.experiment(), resume=True)
        self.assertLen(resumed.history, 4)

    def test_a_request_that_cannot_be_met_leaves_nothing_behind(self) -> None:
        with self.assertRaisesRegex(DataError, "batch_size"):
            self.train("run", self.experiment(recipe={"batch_size": 500}))
        self.assertFalse((self.folder / "run").exists())


class PrecisionTest(TrainingTestCase):
    @parameterized.parameters("mixed_bfloat16", "mixed_float16")
    def test_trains(self, precision: str) -> None:
        history = self.train(
            "run", self.experiment(distribution={"precision": precision}, recipe={"epochs": 3})
        ).history
        self.assertTrue(all(np.isfinite(line["loss"]) for line in history))
        self.assertLess(history[-1]["validation_loss"], history[0]["validation_loss"])


if __name__ == "__main__":
    tf.test.main()
