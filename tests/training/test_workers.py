"""Two local workers train like one process, and a cluster that breaks is put together again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import DistributionConfig, dump_experiment
from esc_tf.data import EpochPart, build_dataset, load_clips
from esc_tf.errors import DataError, RequestError
from esc_tf.tasks.classifier import load_classifier
from esc_tf.training.cluster import Cluster, read_cluster
from esc_tf.training.devices import build_devices
from tests.tiny import tiny_experiment
from tests.training.forked_runs import ForkedRun, ForkingParent, cluster_of, fault, free_ports
from tests.training.test_experiment import without_times


class TwoWorkersTest(tf.test.TestCase):
    parent: ForkingParent
    base: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.parent = ForkingParent()
        cls.addClassCleanup(cls.parent.close)
        cls.base = Path(tempfile.mkdtemp())
        # Dropout draws and mixup's neighbours are a device's own; without them, and with batch
        # statistics of the whole batch, the mathematics of one and of two workers is the same.
        experiment = tiny_experiment(
            str(cls.base / "cache"),
            model={"head": {"dropout": 0.0}},
            augment={"mixup": None},
            recipe={"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.05}},
            distribution={"synchronized_batch_norm": True},
        )
        (cls.base / "tiny.yaml").write_text(dump_experiment(experiment))

    def arguments(self, name: str) -> list[str]:
        config = str(self.base / "tiny.yaml")
        return ["--config", config, "--run-dir", str(self.base / name), "--resume-if-started"]

    def start_two(self, name: str, *faults: dict[str, Any]) -> list[ForkedRun]:
        """Start two workers; the faults happen to the second."""
        ports = free_ports(2)
        return [
            self.parent.start(
                self.arguments(name),
                environment=cluster_of(ports, index),
                faults=[*(faults if index else []), {"at": "end", "do": "weights"}],
            )
            for index in range(2)
        ]

    def wait(self, children: list[ForkedRun], codes: list[int]) -> list[str]:
        found = [child.wait() for child in children]
        said = [child.said() for child in children]
        self.assertEqual(found, codes, "\n".join(said)[-6000:])
        return said

    def read(self, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        run = self.base / name
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return without_times(lines), json.loads((run / "metrics.json").read_text())["test"]

    def test_two_train_like_one_and_go_on_after_losses(self) -> None:
        code, said = self.parent.run(self.arguments("one"))
        self.assertEqual(code, 0, said)
        one, one_test = self.read("one")

        # --- undisturbed
        workers = self.start_two("two")
        said = self.wait(workers, [0, 0])
        two, two_test = self.read("two")
        self.assertEqual([line["epoch"] for line in two], [1, 2, 3])
        for key in ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate"):
            # Measured relative difference: 4e-8 in training, 2e-7 in validation; float32 sums in
            # another order.
            self.assertAllClose(
                [line[key] for line in two], [line[key] for line in one], rtol=1e-5, atol=0.0
            )
        self.assertEqual(two_test["num_clips"], one_test["num_clips"])
        mine = load_classifier(self.base / "two").get_weights()
        for found, wanted in zip(
            mine, load_classifier(self.base / "one").get_weights(), strict=True
        ):
            self.assertAllClose(found, wanted, rtol=1e-3, atol=1e-5)
        # Bit by bit the same on both workers, and only the first one writes and talks.
        last = [np.load(f"{worker.output}.npz") for worker in workers]
        self.assertGreater(len(last[0].files), 10)
        for name in last[0].files:
            self.assertAllEqual(last[0][name], last[1][name])
        self.assertIn("Epoch 3/3", said[0])
        self.assertNotIn("Epoch 3/3", said[1])

        # --- the second worker gets SIGTERM: both stop after the same step, and keep it
        workers = self.start_two("broken", fault("step", "SIGTERM", epoch=1, step=2))
        for text in self.wait(workers, [143, 143]):
            self.assertIn("stopped by SIGTERM in epoch 1, after step 2 of 3", text)

        # --- the second worker is killed in the middle of an epoch: the first one notices
        workers = self.start_two("broken", fault("step", "SIGKILL", epoch=3, step=2))
        said = self.wait(workers, [1, -9])
        self.assertIn("resumed after epoch 0, step 2 of 3", said[0])
        self.assertIn("error: another worker of the cluster stopped", said[0])
        self.assertNotIn("Traceback", said[0])

        # --- both are started again
        said = self.wait(self.start_two("broken"), [0, 0])
        self.assertIn("resumed after epoch 2 of 3", said[1])
        self.assertEqual(self.read("broken"), (two, two_test))

    def test_workers_that_were_not_started_alike_are_told(self) -> None:
        ports = free_ports(2)
        elsewhere = ["--set", "seed=3", "--run-dir", str(self.base / "elsewhere")]
        workers = [
            self.parent.start(
                [*self.arguments("unlike"), *(elsewhere if index else [])],
                environment=cluster_of(ports, index),
            )
            for index in range(2)
        ]
        for text in self.wait(workers, [2, 2]):
            self.assertIn("error: worker 2 of 2 was started with another configuration", text)
        self.assertFalse((self.base / "unlike").exists())

        ports = free_ports(2)
        workers = [
            self.parent.start(
                [*self.arguments("unlike"), *(elsewhere[2:] if index else [])],
                environment=cluster_of(ports, index),
            )
            for index in range(2)
        ]
        for text in self.wait(workers, [2, 2]):
            self.assertIn("is not there for worker 2 of 2; all of them need the same", text)


class EpochPartTest(tf.test.TestCase):
    def test_workers_share_every_batch_and_a_part_begins_where_it_should(self) -> None:
        experiment = tiny_experiment(tempfile.mkdtemp())
        _, clips, _ = load_clips(experiment.data, experiment.audio, 0)

        def read(**part: int) -> list[np.ndarray]:
            data = build_dataset(
                clips[:21],
                audio=experiment.audio,
                num_classes=10,
                batch_size=6,
                training=True,
                epoch=2,
                part=EpochPart(**part),
            )
            return [batch["waveform"].numpy() for batch in data]

        whole = read()
        self.assertLen(whole, 3)
        shares = [read(worker=worker, num_workers=2) for worker in range(2)]
        self.assertAllEqual(whole, np.concatenate(shares, axis=1))
        self.assertAllEqual(whole[1:], read(first_batch=1))
        self.assertEqual(read(first_batch=3), [])
        with self.assertRaisesRegex(DataError, "6 rows cannot be shared evenly by 4 workers"):
            read(num_workers=4)


class ClusterTest(tf.test.TestCase, parameterized.TestCase):
    def test_counts_the_chief_first(self) -> None:
        jobs = {"worker": ["b:1", "c:1"], "chief": ["a:1"], "ps": ["d:1"]}
        for kind, index, place in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
            text = json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})
            self.assertEqual(
                read_cluster({"TF_CONFIG": text}), Cluster(("a:1", "b:1", "c:1"), place)
            )

    @parameterized.parameters("", "  ", "{}", '{"cluster": {}}')
    def test_no_cluster(self, text: str) -> None:
        self.assertIsNone(read_cluster({"TF_CONFIG": text}))
        self.assertIsNone(read_cluster({}))

    @parameterized.parameters(
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"cluster": {"worker": "a:1"}}', "lists of .host:port"),
        ('{"cluster": {"worker": ["a"]}}', "lists of .host:port"),
        ('{"cluster": {"worker": ["a:1"]}}', '"task" must hold'),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "index 1"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "'ps' cannot train"),
        (
            '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
            "a:1 is listed more than once",
        ),
    )
    def test_mistakes_are_named(self, text: str, message: str) -> None:
        with self.assertRaisesRegex(RequestError, f"TF_CONFIG.*{message}"):
            read_cluster({"TF_CONFIG": text})

    def test_several_workers_need_a_cluster(self) -> None:
        with self.assertRaisesRegex(RequestError, "multi_worker needs .* TF_CONFIG"):
            build_devices(DistributionConfig(strategy="multi_worker", deterministic=False))


if __name__ == "__main__":
    tf.test.main()
