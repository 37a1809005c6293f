"""Files are written whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf

from esc_tf.errors import RequestError
from esc_tf.files import PARTIAL_FILES, new_folder, write_atomically


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

    def test_a_folder_is_there_whole_or_not_at_all(self) -> None:
        target = self.folder / "book"
        with new_folder(target, "title", "a book") as partial:
            (partial / "title").write_text("first")
            self.assertFalse(target.exists())
        self.assertEqual((target / "title").read_text(), "first")
        with (
            self.assertRaises(ZeroDivisionError),
            new_folder(target, "title", "a book", replace=True) as partial,
        ):
            (partial / "title").write_text("second")
            raise ZeroDivisionError
        self.assertEqual((target / "title").read_text(), "first")
        with new_folder(target, "title", "a book", replace=True) as partial:
            (partial / "title").write_text("third")
        self.assertEqual((target / "title").read_text(), "third")
        self.assertEqual(list(self.folder.iterdir()), [target])

    def test_a_folder_of_another_kind_is_never_replaced(self) -> None:
        target = self.folder / "letters"
        target.mkdir()
        (target / "dear").write_text("keep me")
        with (
            self.assertRaisesRegex(RequestError, "does not hold a book"),
            new_folder(target, "title", "a book", replace=True),
        ):
            self.fail("must not be entered")
        (target / "title").write_text("mine")
        with (
            self.assertRaisesRegex(RequestError, "holds a book already.*--force"),
            new_folder(target, "title", "a book"),
        ):
            self.fail("must not be entered")
        self.assertEqual({path.name for path in target.iterdir()}, {"dear", "title"})
        self.assertEqual(list(self.folder.iterdir()), [target])


if __name__ == "__main__":
    tf.test.main()
