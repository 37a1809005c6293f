from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import tensorflow as tf
from absl.testing import parameterized

from esc_tf.config import AudioConfig, Esc50DataConfig
from esc_tf.data.classes import ESC10_CLASSES, ESC19_CLASSES
from esc_tf.data.esc50 import load_known_classes
from esc_tf.data.factory import load_data_set
from esc_tf.errors import DataError
from tests.data.folder import ESC50, FolderTestCase, make_row, write_folder, write_table
from tests.shared_files import shared_path


def load(root: Path, classes="all"):
    return load_data_set(
        Esc50DataConfig(name="esc50", root=str(root), classes=classes), AudioConfig(), 0
    )


class Esc50Test(FolderTestCase):
    def write_whole_table(self):
        # Descending, so that label ids cannot come from the order of the rows.
        rows = [
            make_row(f"{fold}-{target}{fold}-A-{target}.wav", fold, name, target, f"{target}{fold}")
            for target, name in reversed(list(enumerate(ESC50)))
            for fold in (1, 2)
        ]
        write_table(self.root, rows)

    def assert_refused(self, *parts: str, classes="all"):
        with self.assertRaises(DataError) as caught:
            load(self.root, classes)
        for part in parts:
            self.assertIn(part, str(caught.exception))
        return caught.exception

    def test_whole_set_has_targets_as_label_ids(self):
        self.write_whole_table()
        data_set = load(self.root)
        self.assertEqual(data_set.label_names, tuple(ESC50))
        self.assertLen(data_set.records, 100)
        for record in data_set.records:
            self.assertEqual(record.label_id, ESC50.index(record.label_name))
            self.assertEqual(record.path, self.root / "audio" / record.clip_id)
            self.assertEqual(record.clip_id.split("-")[1], record.source_id)

    @parameterized.parameters(("esc10", ESC10_CLASSES, 10), ("esc19", ESC19_CLASSES, 19))
    def test_named_selection_in_order_of_targets(self, classes, names, count):
        self.write_whole_table()
        data_set = load(self.root, classes)
        self.assertLen(data_set.label_names, count)
        self.assertEqual(data_set.label_names, tuple(sorted(names, key=ESC50.index)))
        self.assertLen(data_set.records, 2 * count)
        for record in data_set.records:
            self.assertEqual(data_set.label_names[record.label_id], record.label_name)

    def test_esc10_is_what_the_shared_folder_holds(self):
        root = shared_path("esc10")
        data_set = load(root, "esc10")
        self.assertEqual(data_set, load(root, "all"))
        self.assertEqual(
            Counter((record.label_id, record.fold) for record in data_set.records),
            {(label_id, fold): 8 for label_id in range(10) for fold in (1, 2, 3, 4)},
        )
        self.assertTrue(all(record.path.is_file() for record in data_set.records))

    def test_list_keeps_its_own_order(self):
        self.write_whole_table()
        data_set = load(self.root, ["rain", "cat", "dog"])
        self.assertEqual(data_set.label_names, ("rain", "cat", "dog"))
        self.assertEqual(
            {(record.label_id, record.label_name) for record in data_set.records},
            {(0, "rain"), (1, "cat"), (2, "dog")},
        )

    def test_unknown_classes_all_at_once_with_near_match(self):
        self.write_whole_table()
        error = self.assert_refused("'roster'; did you mean 'rooster'?", classes=["roster", "xx"])
        self.assertLen(error.problems, 2)

    def test_class_listed_twice(self):
        self.write_whole_table()
        self.assert_refused("'dog' is listed twice", classes=["dog", "rain", "dog"])

    def test_named_selection_without_clips_of_a_class(self):
        write_folder(self.root)
        self.assert_refused("esc10", "helicopter", "chainsaw", classes="esc10")

    def test_ogg_names_and_order_of_columns(self):
        row = make_row("1-5-A-0.ogg", 1, "dog", 0, "5")
        other = make_row("1-6-A-1.ogg", 1, "rooster", 1, "6")
        write_table(self.root, [row, other], columns=sorted(row, reverse=True))
        names = [record.clip_id for record in load(self.root).records]
        self.assertEqual(names, ["1-5-A-0.ogg", "1-6-A-1.ogg"])

    def test_no_folder(self):
        self.root = self.root / "nothing"
        self.assert_refused("data.root", str(self.root), "meta/esc50.csv")

    def test_folder_without_table(self):
        self.assert_refused(str(self.root / "meta" / "esc50.csv"), "does not exist")

    def test_folder_without_audio(self):
        write_folder(self.root)
        shutil.rmtree(self.root / "audio")
        self.assert_refused(str(self.root / "audio"))

    @parameterized.parameters("filename", "fold", "target", "category", "src_file")
    def test_missing_column(self, column):
        rows = write_folder(self.root)
        write_table(self.root, rows, [name for name in rows[0] if name != column])
        self.assert_refused("line 1", f"no column {column}")

    @parameterized.parameters(
        ("fold", "one", "fold is 'one'"),
        ("fold", "0", "fold is '0'"),
        ("fold", "1.0", "fold is '1.0'"),
        ("fold", "²", "fold is '²'"),
        ("target", "-1", "target is '-1'"),
        ("target", "", "target is empty"),
        ("category", " ", "category is empty"),
        ("filename", "", "filename is empty"),
        ("src_file", "", "src_file is empty"),
        ("target", "1", "target 1 is 'rooster' here and 'dog' before"),
        ("category", "rooster", "'rooster' has target 1 here and 0 before"),
    )
    def test_bad_cell_names_its_line(self, column, value, message):
        rows = write_folder(self.root)
        rows[1][column] = value  # the first row is in line 2
        write_table(self.root, rows)
        where = "line 3" if "before" not in message else "line "
        self.assert_refused(where, message)

    @parameterized.parameters(
        "../secret.wav", "/etc/passwd", "a/b.wav", "..", "..\\x.wav", "C:\\x.wav"
    )
    def test_file_name_that_leaves_the_folder(self, filename):
        rows = write_folder(self.root)
        rows[0]["filename"] = filename
        write_table(self.root, rows)
        self.assert_refused("line 2", filename, "leaves the folder audio/")

    def test_nul_in_a_file_name(self):
        rows = write_folder(self.root)
        rows[0]["filename"] = "x\0.wav"
        write_table(self.root, rows)
        self.assert_refused("esc50.csv")  # by us or, in Python 3.10, by the csv module

    def test_duplicate_file_name_names_both_lines(self):
        rows = write_folder(self.root)
        rows[3]["filename"] = rows[0]["filename"]
        write_table(self.root, rows)
        self.assert_refused("line 5", rows[0]["filename"], "line 2")

    def test_all_problems_at_once_up_to_a_limit(self):
        rows = write_folder(self.root, folds=5, clips=3)
        for row in rows:
            row["fold"] = "x"
        write_table(self.root, rows)
        self.assertLen(self.assert_refused("line 2:", "line 21:", "25 more").problems, 21)

    @parameterized.parameters(
        (b"", "line 1"),
        (b"filename,fold,target,category,src_file\n", "no rows"),
        (b"filename,fold,target,category,src_file\na.wav,1,0\n", "line 2: has another number"),
        (b"filename,fold,target,category,src_file\na,1,0,dog,5,6\n", "line 2: has another number"),
        (b"\xff\xfe\x00garbage\x00\xff" * 50, "UTF-8"),
        (b'filename,fold,target,category,src_file\n"a.wav,1,0,dog,5\n', "CSV"),
    )
    def test_malformed_table(self, content, message):
        write_folder(self.root)
        (self.root / "meta" / "esc50.csv").write_bytes(content)
        self.assert_refused(message)

    def test_table_with_a_byte_order_mark(self):
        write_folder(self.root)
        table = self.root / "meta" / "esc50.csv"
        table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
        self.assertLen(load(self.root).records, 12)

    def test_known_classes_keep_the_models_ids(self):
        write_folder(self.root)
        data_set = load_known_classes(self.root, ["train", "rain", "dog"])
        self.assertEqual(data_set.label_names, ("train", "rain", "dog"))
        self.assertEqual(Counter(record.label_id for record in data_set.records), {1: 4, 2: 4})
        with self.assertRaisesRegex(DataError, "no clip has a class that the model knows"):
            load_known_classes(self.root, ["train", "siren"])

    def test_rows_are_those_of_the_csv_module(self):
        rows = write_folder(self.root)
        with (self.root / "meta" / "esc50.csv").open() as file:
            expected = [row["filename"] for row in csv.DictReader(file)]
        self.assertEqual([record.clip_id for record in load(self.root).records], expected)
        self.assertLen(expected, len(rows))


if __name__ == "__main__":
    tf.test.main()
