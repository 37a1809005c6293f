"""Cross-validation: which clips each fold sees, both sets of weights, folds gone and come back."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf import evaluate
from esc_tf.config import Experiment
from esc_tf.data import CachedClip, Split, load_clips
from esc_tf.errors import DataError, EscTfError, RequestError
from esc_tf.evaluation import voting
from esc_tf.evaluation.metrics import compute_metrics
from esc_tf.training import cross_validation, run_data
from esc_tf.training.cross_validation import cross_validate, plan_folds
from esc_tf.training.experiment import train_experiment
from esc_tf.training.loop import TrainingLoop
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.split_file import check_parts_apart, read_split, split_experiment
from tests.tiny import tiny_experiment

# Stands for the training command: writes down how it was called, and the canned results.
_STUB = """
import json, pathlib, shutil, sys
arguments = sys.argv[1:]
run = pathlib.Path(arguments[arguments.index("--run-dir") + 1])
with open(run.parent / "calls.jsonl", "a") as file:
    file.write(json.dumps(arguments) + "\\n")
if "--resume" not in arguments:
    run.mkdir()
    (run / "resolved.yaml").write_text("begun")
if (run.parent / f"{run.name}.unlucky").exists():
    sys.exit("error: out of luck")
for name in ("metrics.json", "split.json"):
    shutil.copy(run.parent / "canned" / run.name / name, run / name)
"""


def ids(clips: tuple[CachedClip, ...]) -> set[str]:
    return {clip.record.clip_id for clip in clips}


class PlanTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cache = tempfile.mkdtemp()

    @parameterized.parameters(0.25, 4, None)
    def test_test_clips_are_in_no_other_part_in_any_fold(self, validation: Any) -> None:
        recipe = {"schedule": {"name": "constant"}, "early_stopping": None}
        wanted = tiny_experiment(self.cache, data={"validation": validation}, recipe=recipe)
        _, clips, _ = load_clips(wanted.data, wanted.audio, wanted.seed)
        tested: list[str] = []
        for plan in plan_folds(wanted):
            split = split_experiment(plan.experiment, clips)
            parts = [ids(split.train), ids(split.validation), ids(split.test)]
            self.assertEqual(sum(map(len, parts)), len(set.union(*parts)))
            self.assertEqual(bool(split.validation), validation is not None)
            self.assertEqual({clip.record.fold for clip in split.test}, {plan.fold})
            tested += ids(split.test)
        self.assertCountEqual(tested, ids(tuple(clips)))

    def test_a_validation_fold_keeps_its_distance(self) -> None:
        plans = plan_folds(tiny_experiment(self.cache))
        pairs = [
            (plan.experiment.data.test_fold, plan.experiment.data.validation) for plan in plans
        ]
        self.assertEqual(pairs, [(1, 5), (2, 1), (3, 2), (4, 3), (5, 4)])
        # The run for the configuration's own test fold is the configuration's.
        self.assertEqual(plans[-1].experiment, tiny_experiment(self.cache))
        self.assertEqual(plans[0].overrides, ("data.test_fold=1", "data.validation=5"))
        without = tiny_experiment(self.cache, data={"test_fold": None})
        self.assertEqual(plan_folds(without, [5])[0].experiment.data.validation, 1)

    def test_a_fraction_stays(self) -> None:
        plans = plan_folds(tiny_experiment(self.cache, data={"validation": 0.25}), [3, 1])
        self.assertEqual(
            [plan.overrides for plan in plans], [(f"data.test_fold={k}",) for k in "13"]
        )
        self.assertEqual(plans[0].experiment.data.validation, 0.25)

    def test_refusals(self) -> None:
        with self.assertRaisesRegex(
            DataError, "fold 7 does not exist; the folds are 1, 2, 3, 4, 5"
        ):
            plan_folds(tiny_experiment(self.cache), [1, 7])
        with self.assertRaisesRegex(DataError, "data.validation: fold 9 does not exist"):
            plan_folds(tiny_experiment(self.cache, data={"validation": 9}))

    def test_parts_that_overlap_are_seen_whatever_made_them(self) -> None:
        wanted = tiny_experiment(self.cache)
        _, clips, _ = load_clips(wanted.data, wanted.audio, wanted.seed)
        good = split_experiment(wanted, clips)
        for name, split in {
            "clip": Split((*good.train, good.test[0]), good.validation, good.test),
            "validation": Split(good.train, (*good.validation, good.test[0]), good.test),
            "twice": Split((*good.train, good.validation[0]), good.validation, good.test),
            "fold": Split(good.train, good.validation[1:], (*good.test, good.validation[0])),
        }.items():
            with self.subTest(name), self.assertRaisesRegex(DataError, "overlap"):
                check_parts_apart(split, 5)
        for key in ("source_id", "content_digest"):
            with self.subTest(key), self.assertRaisesRegex(DataError, "is in the train"):
                owner, stranger = copy.deepcopy(good.test[0]), copy.deepcopy(good.train[0])
                for clip in (owner, stranger):
                    holder = clip if hasattr(clip, key) else clip.record
                    object.__setattr__(holder, key, "the same")
                train, test = (*good.train[1:], stranger), (*good.test[1:], owner)
                check_parts_apart(Split(train, good.validation, test), 5)


class Spoil(keras.callbacks.Callback):
    """Makes the second epoch worse than the first, so that the best epoch is not the last."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            bias = self.model.head.get_layer("logits").bias
            bias.assign(50.0 * np.eye(10)[0])


class BothWeightsTest(tf.test.TestCase):
    """``test_last`` and ``test_best`` of one run."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())

    def train(self, name: str, **recipe: Any) -> dict[str, Any]:
        wanted = tiny_experiment(str(self.folder / "cache"), recipe=recipe)
        run = RunDirectory(self.folder / name)
        return train_experiment(wanted, run, report=lambda line: None, callbacks=[Spoil()]).metrics

    def evaluate(self, name: str) -> dict[str, Any]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = evaluate.main(["--run-dir", str(self.folder / name), "--json"])
        self.assertEqual(code, 0)
        return json.loads(out.getvalue())

    def test_both_are_tested_and_none_twice(self) -> None:
        options = {"epochs": 2, "monitor": "validation_loss"}
        with mock.patch.object(voting, "compute_metrics", wraps=compute_metrics) as measured:
            best = self.train("best", select="best", **options)
        self.assertEqual((best["test_best"]["epoch"], best["test_last"]["epoch"]), (1, 2))
        self.assertEqual(measured.call_count, 3)  # validation, and two sets of weights
        last = self.train("last", select="last", **options)
        for key in ("test_last", "test_best"):
            self.assertEqual(best[key], last[key])
        self.assertNotEqual(best["test_last"]["roc_auc_macro"], best["test_best"]["roc_auc_macro"])
        self.assertEqual(best["test"], without_epoch(best["test_best"]))
        self.assertEqual(last["test"], without_epoch(last["test_last"]))
        # What was stored says the same, in another process of measuring.
        for name, metrics in (("best", best), ("last", last)):
            again = self.evaluate(name)
            again = again.get("metrics", again)
            self.assertAllClose(again["roc_auc_macro"], metrics["test"]["roc_auc_macro"])

    def test_one_epoch_is_tested_once_and_without_validation_there_is_no_best(self) -> None:
        with mock.patch.object(voting, "compute_metrics", wraps=compute_metrics) as measured:
            metrics = self.train("one", epochs=1)
        self.assertEqual(measured.call_count, 2)
        self.assertEqual(metrics["test_last"], metrics["test_best"])
        wanted = tiny_experiment(
            str(self.folder / "cache"),
            data={"validation": None},
            recipe={"epochs": 1, "schedule": {"name": "constant"}, "early_stopping": None},
        )
        run = RunDirectory(self.folder / "blind")
        metrics = train_experiment(wanted, run, report=lambda line: None).metrics
        self.assertIn("test_last", metrics)
        self.assertNotIn("test_best", metrics)

    def test_no_test_clip_is_read_before_training_has_ended(self) -> None:
        read: list[set[str]] = []
        plain_build, plain_train = run_data.build_pipeline, TrainingLoop.train

        def build(clips: Any, **options: Any) -> Any:
            read.append(ids(clips))
            return plain_build(clips, **options)

        def train(loop: TrainingLoop, *arguments: Any) -> Any:
            result = plain_train(loop, *arguments)
            read.append({"training has ended"})
            return result

        with (
            mock.patch.object(run_data, "build_pipeline", build),
            mock.patch.object(TrainingLoop, "train", train),
        ):
            self.train("run", epochs=2)
        split = read_split(RunDirectory(self.folder / "run"))
        self.assertEqual({part: len(split[part]) for part in split}, SIZES)
        end = read.index({"training has ended"})
        self.assertEqual(read[:end], [set(split["validation"])])  # once for all epochs
        self.assertIn(set(split["test"]), read[end:])

    def test_resuming_with_other_clips_is_refused(self) -> None:
        self.train("run", epochs=1)
        path = self.folder / "run" / "split.json"
        stored = json.loads(path.read_text())
        stored["train"][0] = "another clip"
        path.write_text(json.dumps(stored))
        wanted = tiny_experiment(str(self.folder / "cache"), recipe={"epochs": 2})
        with self.assertRaisesRegex(RequestError, "2 clips of the train part are not those"):
            train_experiment(wanted, RunDirectory(self.folder / "run"), resume=True)


SIZES = {"train": 60, "validation": 20, "test": 20, "dropped": 0}


def without_epoch(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "epoch"}


class RotationTest(tf.test.TestCase):
    """The folds as processes, with a stand-in for the training command."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp()) / "cv"
        self.cache = tempfile.mkdtemp()
        self.experiment = self.configure()
        _, clips, _ = load_clips(self.experiment.data, self.experiment.audio, 0)
        for plan in plan_folds(self.experiment):
            canned = self.folder / "canned" / f"fold_{plan.fold}"
            canned.mkdir(parents=True)
            split = split_experiment(plan.experiment, clips)
            parts = {part: sorted(ids(getattr(split, part))) for part in SIZES}
            (canned / "split.json").write_text(json.dumps(parts))
            (canned / "metrics.json").write_text(json.dumps(make_metrics(plan.fold, 4)))

    def configure(self, **recipe: Any) -> Experiment:
        return tiny_experiment(self.cache, recipe=recipe)

    def cross_validate(self, folds: list[int] | None = None, **options: Any) -> dict[str, Any]:
        wanted = options.pop("experiment", self.experiment)
        self.lines: list[str] = []
        return cross_validate(
            wanted,
            self.folder,
            plan_folds(wanted, folds),
            command=[sys.executable, "-c", _STUB],
            report=self.lines.append,
            **options,
        )

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return found

    def test_folds_that_failed_are_named_and_tried_again_alone(self) -> None:
        unlucky = self.folder / "fold_2.unlucky"
        unlucky.touch()
        result = self.cross_validate(parallel=2)
        self.assertEqual(result["folds"], [1, 3, 4, 5])
        self.assertRegex(result["failed_folds"]["2"], r"exit code 1 \(out of luck\); see .*log")
        self.assertIn("out of luck", (self.folder / "fold_2.log").read_text())
        self.assertLen(self.calls(), 5)

        unlucky.unlink()
        result = self.cross_validate(resume=True)
        self.assertEqual((result["folds"], result["failed_folds"]), ([1, 2, 3, 4, 5], {}))
        ((*call,),) = self.calls()
        self.assertEqual(call[-1], "--resume")
        self.assertEqual(call[call.index("--run-dir") + 1], str(self.folder / "fold_2"))
        self.assertIn("data.test_fold=2", call)
        self.assertIn("data.validation=1", call)
        self.assertEqual(self.lines[0], "fold 1: finished before")
        stored = json.loads((self.folder / "cross_validation.json").read_text())
        self.assertEqual(stored, result)
        self.assertEqual(stored["last"]["pooled"]["num_clips"], 100)

    def test_a_longer_recipe_goes_on_with_every_fold(self) -> None:
        self.cross_validate([1, 2])
        self.assertLen(self.calls(), 2)
        longer = self.configure(epochs=6)
        for fold in (1, 2):
            path = self.folder / "canned" / f"fold_{fold}" / "metrics.json"
            path.write_text(json.dumps(make_metrics(fold, 6)))
        self.cross_validate([1, 2], resume=True, experiment=longer)
        self.assertEqual([call[-1] for call in self.calls()], ["--resume"] * 2)
        stored, folds = cross_validation.read_stored(self.folder)
        self.assertEqual((stored, folds), (longer, [1, 2]))

    def test_every_fold_failing_is_an_error(self) -> None:
        for fold in (1, 2):
            (self.folder / f"fold_{fold}.unlucky").touch()
        with self.assertRaisesRegex(EscTfError, "fold 1: failed.*\nfold 2: failed"):
            self.cross_validate([1, 2])

    def test_a_fold_that_says_done_without_a_result_has_failed(self) -> None:
        path = self.folder / "canned" / "fold_1" / "metrics.json"
        path.write_text(json.dumps(make_metrics(1, 3)))
        result = self.cross_validate([1, 2])
        self.assertIn("exit code 0", result["failed_folds"]["1"])

    def test_what_the_runs_wrote_down_is_checked(self) -> None:
        path = self.folder / "canned" / "fold_1" / "split.json"
        split = json.loads(path.read_text())
        split["validation"].append(split["test"][0])
        path.write_text(json.dumps(split))
        with self.assertRaisesRegex(EscTfError, "fold 1: test clips are also in another part"):
            self.cross_validate([1, 2])

    def test_folders_that_do_not_suit(self) -> None:
        with self.assertRaisesRegex(RequestError, "holds no cross-validation"):
            self.cross_validate(resume=True)
        self.cross_validate([1])
        with self.assertRaisesRegex(RequestError, "already holds a cross-validation; add --resume"):
            self.cross_validate([1])
        with (
            cross_validation._claim(self.folder),
            self.assertRaisesRegex(RequestError, "in use by another running process"),
        ):
            self.cross_validate([1], resume=True)
        (self.folder / "resolved.yaml").touch()
        with self.assertRaisesRegex(RequestError, "holds a single run"):
            self.cross_validate([1], resume=True)


def make_metrics(fold: int, epochs: int) -> dict[str, Any]:
    rng = np.random.default_rng(fold)
    names = [f"class {index}" for index in range(10)]
    test = compute_metrics(np.arange(20) % 10, rng.random((20, 10)), names)
    return {
        "recipe_epochs": epochs,
        "clips": {"train": 60, "validation": 20, "test": 20},
        "test_last": {"epoch": epochs, **test},
        "test_best": {"epoch": 1, **test},
    }


if __name__ == "__main__":
    tf.test.main()
