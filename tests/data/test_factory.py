"""Another folder in a run's own layout."""

from __future__ import annotations

import tensorflow as tf

from esc_tf.config import (
    FolderDataConfig,
    ShardsDataConfig,
    SyntheticDataConfig,
    UrbanSound8KDataConfig,
)
from esc_tf.data.factory import load_known_data_set
from esc_tf.errors import DataError, RequestError
from tests.data.folder import FolderTestCase
from tests.data.test_folder import write_class_folders
from tests.data.test_urbansound8k import CLASSES, write_urbansound8k


class KnownDataSetTest(FolderTestCase):
    def test_takes_the_classes_that_the_model_knows(self):
        write_urbansound8k(self.root / "urban", folds=1)
        config = UrbanSound8KDataConfig(name="urbansound8k", root="elsewhere")
        labels = ("fog_horn", "siren", "dog_bark")
        data_set = load_known_data_set(config, self.root / "urban", labels)
        self.assertEqual(data_set.label_names, labels)
        self.assertEqual([r.label_id for r in data_set.records], [2, 2, 1, 1])
        with self.assertRaisesRegex(DataError, f"it has {', '.join(CLASSES)}, the model knows cat"):
            load_known_data_set(config, self.root / "urban", ("cat",))
        write_class_folders(self.root / "own")
        data_set = load_known_data_set(
            FolderDataConfig(name="folder", root="elsewhere"), self.root / "own", ("dog", "x")
        )
        self.assertLen(data_set.records, 10)

    def test_sets_without_a_folder_of_files(self):
        for config in (
            SyntheticDataConfig(name="synthetic"),
            ShardsDataConfig(name="shards", root="x"),
        ):
            with self.assertRaisesRegex(RequestError, f"used data.name {config.name}; another"):
                load_known_data_set(config, self.root, ("dog",))


if __name__ == "__main__":
    tf.test.main()
