"""Files are written whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf

from esc_tf.files import PARTIAL_FILES, write_atomically


class WriteAtomicallyTest(tf.test.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())

    def test_the_old_file_stays_until_the_new_one_is_whole(self) -> None:
        target = self.folder / "metrics.json"
        target.write_text("old")

        def write(path: Path) -> None:
            self.assertEqual(path.suffix, ".json")
            path.write_text("new")
            self.assertEqual(target.read_text(), "old")
            self.assertEqual(list(self.folder.glob(PARTIAL_FILES)), [path])

        write_atomically(target, write)
        self.assertEqual(target.read_text(), "new")
        self.assertEqual(list(self.folder.iterdir()), [target])

    def test_failed_write_leaves_the_old_file_and_nothing_else(self) -> None:
        target = self.folder / "metrics.json"
        target.write_text("old")

        def fail(path: Path) -> None:
            path.write_text("half")
            raise OSError("disk full")

        with self.assertRaisesRegex(OSError, "disk full"):
            write_atomically(target, fail)
        self.assertEqual(target.read_text(), "old")
        self.assertEqual(list(self.folder.iterdir()), [target])


if __name__ == "__main__":
    tf.test.main()
