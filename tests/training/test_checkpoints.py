"""Checkpoints are whole, strict and read without pickle."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from esc_tf.errors import CheckpointError
from esc_tf.training.checkpoints import (
    delete_old_checkpoints,
    epoch_path,
    find_checkpoints,
    read_checkpoint,
    write_checkpoint,
)


def _variables(seed: int, width: int = 3) -> dict[str, list[keras.Variable]]:
    rng = np.random.default_rng(seed)
    return {
        "model": [keras.Variable(rng.normal(size=(2, width)), name="kernel")],
        "optimizer": [keras.Variable(seed, dtype="int32", name="iteration")],
    }


class CheckpointTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.path = epoch_path(self.folder, 3)

    def test_round_trip(self) -> None:
        write_checkpoint(self.path, _variables(5), {"history": [{"loss": 0.5}]})
        target = _variables(6)
        self.assertEqual(read_checkpoint(self.path, target), {"history": [{"loss": 0.5}]})
        for group, members in _variables(5).items():
            for mine, loaded in zip(members, target[group], strict=True):
                self.assertAllEqual(mine.numpy(), loaded.numpy())

    def test_a_group_alone_can_be_read(self) -> None:
        write_checkpoint(self.path, _variables(5), {})
        target = _variables(6)
        read_checkpoint(self.path, {"model": target["model"]})
        self.assertAllEqual(target["model"][0].numpy(), _variables(5)["model"][0].numpy())
        self.assertEqual(int(target["optimizer"][0].numpy()), 6)

    def test_mismatch_names_both_sides_and_assigns_nothing(self) -> None:
        write_checkpoint(self.path, _variables(5), {})
        target = _variables(6, width=4)
        before = target["model"][0].numpy().copy()
        with self.assertRaisesRegex(CheckpointError, r"shape \[2, 3\] but the run needs \[2, 4\]"):
            read_checkpoint(self.path, target)
        self.assertAllEqual(target["model"][0].numpy(), before)
        self.assertEqual(int(target["optimizer"][0].numpy()), 6)

    def test_damaged_files_are_refused(self) -> None:
        write_checkpoint(self.path, _variables(5), {})
        whole = self.path.read_bytes()
        for damaged in (b"", b"nonsense", whole[: len(whole) // 2], whole[:-30]):
            self.path.write_bytes(damaged)
            with self.assertRaisesRegex(CheckpointError, "cannot be read as a checkpoint"):
                read_checkpoint(self.path, _variables(6))

    def test_pickled_content_is_not_executed(self) -> None:
        witness = self.folder / "executed"

        class Evil:
            def __reduce__(self) -> tuple:
                return (Path.touch, (witness,))

        array = np.array([Evil()], dtype=object)
        with open(self.path, "wb") as file:
            np.savez(file, state=array, allow_pickle=True)
        with self.assertRaises(CheckpointError):
            read_checkpoint(self.path, _variables(6))
        self.path.write_bytes(pickle.dumps(Evil()))
        with self.assertRaises(CheckpointError):
            read_checkpoint(self.path, _variables(6))
        self.assertFalse(witness.exists())

    def test_only_the_newest_are_kept(self) -> None:
        for epoch in (1, 2, 9, 10, 11):
            write_checkpoint(epoch_path(self.folder, epoch), _variables(0), {})
        (self.folder / "epoch_0012.77.partial.npz").write_bytes(b"left by a killed process")
        (self.folder / "best.npz").write_bytes(b"not an epoch")
        delete_old_checkpoints(self.folder, keep=2)
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()),
            ["best.npz", "epoch_0010.npz", "epoch_0011.npz"],
        )
        self.assertEqual(find_checkpoints(self.folder)[-1].name, "epoch_0011.npz")


if __name__ == "__main__":
    tf.test.main()
