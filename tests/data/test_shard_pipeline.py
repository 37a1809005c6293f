"""Batches out of shards: complete, repeatable, shared by workers, damage named."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from esc_tf.augment import build_feature_draw, build_waveform_augment, build_waveform_mixup
from esc_tf.config import AugmentConfig
from esc_tf.config.augment import FrequencyMaskConfig, MixupConfig, NoiseConfig
from esc_tf.data.batches import build_dataset, build_pipeline
from esc_tf.data.clips import load_clips
from esc_tf.data.folds import split_clips
from esc_tf.data.graph_errors import pass_if
from esc_tf.data.pipeline import EpochPart
from esc_tf.data.shard_pipeline import ShardPipeline
from esc_tf.errors import DataError
from tests.data.sharded import AUDIO, ShardsTestCase

AUGMENT = AugmentConfig(
    noise=NoiseConfig(probability=0.5),
    frequency_mask=FrequencyMaskConfig(max_bands=4),
    mixup=MixupConfig(alpha=0.2, on="waveform"),
)


class ShardPipelineTest(ShardsTestCase):
    def clips(self, **options):
        return load_clips(self.config(**options), AUDIO, 0)[1]

    def pipeline(self, clips=None, *, batch_size=8, training=True, seed=0, **options):
        return build_pipeline(
            self.clips() if clips is None else clips,
            audio=AUDIO,
            num_classes=3,
            batch_size=batch_size,
            training=training,
            seed=seed,
            **options,
        )

    def order(self, pipeline, epoch=0, **part) -> np.ndarray:
        """Indices of all rows of an epoch, ``(batches, rows)``."""
        return np.stack([b["index"].numpy() for b in pipeline.epoch(epoch, EpochPart(**part))])

    def test_evaluation_gives_what_files_give(self):
        clips = self.clips()
        options = dict(audio=AUDIO, num_classes=3, batch_size=8, training=False)
        _, files, _ = load_clips(self.files(), AUDIO, 0, progress=False)
        by_id = {file.record.clip_id: file for file in files}
        same_order = [by_id[clip.record.clip_id] for clip in clips]
        pairs = zip(
            build_dataset(clips, **options), build_dataset(same_order, **options), strict=True
        )
        count = 0
        for ours, theirs in pairs:
            count += 1
            self.assertEqual(set(ours), set(theirs))
            for key in ("num_samples", "label", "weight", "index"):
                np.testing.assert_array_equal(ours[key], theirs[key])
            real = ours["weight"].numpy() > 0  # fillers hold any sound
            np.testing.assert_array_equal(ours["waveform"][real], theirs["waveform"][real])
        self.assertEqual(count, 5)

    def test_a_fold_is_read_alone(self):
        split = split_clips(self.clips(), 2, None, 0)
        for path in [*self.shards.glob("fold1-*.tfrecord"), *self.shards.glob("fold3-*.tfrecord")]:
            path.unlink()
        pipeline = self.pipeline(split.test, training=False, batch_size=5)
        rows = self.order(pipeline).reshape(-1)
        self.assertEqual(rows.tolist(), [*range(12), -1, -1, -1])

    def test_a_fraction_is_read_out_of_its_shards(self):
        split = split_clips(self.clips(), 3, 0.25, 0)
        seen = self.order(self.pipeline(split.train, batch_size=6)).reshape(-1)
        self.assertCountEqual(seen.tolist(), range(18))
        batches = build_dataset(
            split.validation, audio=AUDIO, num_classes=3, batch_size=6, training=False
        )
        (batch,) = batches
        labels = [clip.record.label_id for clip in split.validation]
        self.assertAllEqual(tf.argmax(batch["label"], axis=1), labels)

    def test_epochs_are_complete_repeatable_and_unlike(self):
        pipeline = self.pipeline(batch_size=9)
        self.assertIsInstance(pipeline, ShardPipeline)
        self.assertEqual(pipeline.num_batches, 4)
        first = self.order(pipeline)
        self.assertCountEqual(first.reshape(-1).tolist(), range(36))
        tf.random.set_seed(77)  # the seed of the process means nothing
        np.testing.assert_array_equal(first, self.order(self.pipeline(batch_size=9)))
        self.assertTrue(np.any(first != self.order(pipeline, epoch=1)))
        self.assertTrue(np.any(first != self.order(self.pipeline(batch_size=9, seed=1))))

    def test_a_small_window_still_mixes_shards(self):
        clips = self.clips(shuffle_window=4, parallel_reads=2)
        first = self.order(self.pipeline(clips, batch_size=9)).reshape(-1)
        self.assertCountEqual(first.tolist(), range(36))
        shards = [clips[index].shard.number for index in first[:6]]
        self.assertLen(set(shards), 2)

    def test_augmented_batches_are_the_same_bit_by_bit(self):
        def batches():
            pipeline = self.pipeline(
                augment_waveform=build_waveform_augment(AUGMENT, AUDIO),
                draw=build_feature_draw(AUGMENT),
                mix_batch=build_waveform_mixup(AUGMENT),
            )
            return list(pipeline.epoch(1))

        for ours, again in zip(batches(), batches(), strict=True):
            for key, value in ours.items():
                np.testing.assert_array_equal(value, again[key], err_msg=key)

    def test_an_epoch_goes_on_in_its_middle(self):
        pipeline = self.pipeline()
        whole = self.order(pipeline, epoch=2)
        np.testing.assert_array_equal(whole[3:], self.order(pipeline, epoch=2, first_batch=3))
        evaluation = self.pipeline(training=False)
        np.testing.assert_array_equal(
            self.order(evaluation)[2:], self.order(evaluation, first_batch=2)
        )

    def test_each_worker_trains_on_shards_of_its_own(self):
        clips = self.clips()
        pipeline = self.pipeline(clips, batch_size=6)
        seen = []
        for worker in range(3):
            rows = self.order(pipeline, worker=worker, num_workers=3)
            self.assertEqual(rows.shape, (6, 2))
            numbers = {clips[index].shard.number for index in rows.reshape(-1)}
            self.assertEqual({number % 3 for number in numbers}, {worker})
            seen += rows.reshape(-1).tolist()
            again = self.order(pipeline, worker=worker, num_workers=3)
            np.testing.assert_array_equal(rows, again)
        self.assertCountEqual(seen, range(36))

    def test_a_worker_with_fewer_clips_begins_again(self):
        clips = [clip for clip in self.clips() if clip.shard.number != 0 or clip.place == 0]
        pipeline = self.pipeline(clips, batch_size=4)
        self.assertEqual(pipeline.num_batches, 8)
        few = self.order(pipeline, worker=0, num_workers=2).reshape(-1)
        many = self.order(pipeline, worker=1, num_workers=2).reshape(-1)
        self.assertLen(few, 16)
        self.assertLen(set(few.tolist()), 16)
        self.assertLen(set(many.tolist()), 16)
        self.assertEmpty(set(few.tolist()) & set(many.tolist()))
        lone = [clip for clip in self.clips() if clip.shard.number in (0, 1, 3, 5)]
        rows = self.order(self.pipeline(lone, batch_size=4), worker=0, num_workers=2)
        self.assertEqual(rows.shape, (3, 2))  # three clips, each twice
        self.assertLen(set(rows.reshape(-1).tolist()), 3)

    def test_workers_evaluate_row_by_row(self):
        pipeline = self.pipeline(training=False, batch_size=8)
        whole = self.order(pipeline)
        for worker in range(2):
            mine = self.order(pipeline, worker=worker, num_workers=2)
            np.testing.assert_array_equal(mine, whole[:, 4 * worker : 4 * worker + 4])

    def test_a_damaged_record_names_its_shard(self):
        clips = self.clips()
        path = clips[20].shard.path
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # in the second of three records
        path.write_bytes(content)
        message = f"{path.name}: unreadable after 1 of 3 records; run python -m esc_tf.data shard"
        for training in (True, False):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, message):
                self.order(self.pipeline(clips, training=training))

    def test_a_shard_that_goes_missing_names_itself(self):
        clips = self.clips()
        clips[20].shard.path.unlink()
        message = f"{clips[20].shard.path.name}: unreadable after 0 of 3 records"
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, message):
            self.order(self.pipeline(clips))

    def test_a_shard_cut_off_later_is_refused(self):
        clips = self.clips()
        path = clips[0].shard.path
        path.write_bytes(path.read_bytes()[:-5])
        with self.assertRaisesRegex(DataError, f"{path.name}: damaged, it has"):
            self.pipeline(clips).epoch()

    def test_too_few_shards_for_the_workers(self):
        with self.assertRaisesRegex(DataError, "12 shards leave some of 13 workers without any"):
            self.pipeline(batch_size=13).epoch(0, EpochPart(worker=0, num_workers=13))
        with self.assertRaisesRegex(DataError, "8 rows cannot be shared evenly by 3 workers"):
            self.pipeline(batch_size=8).epoch(0, EpochPart(worker=0, num_workers=3))

    def test_no_operation_has_a_state(self):
        """Under op determinism tf.data runs stateful maps one by one, so there must be none."""
        pipeline = self.pipeline()
        item = {
            "position": tf.constant(0),
            "index": tf.constant(0),
            "record": tf.constant(""),
        }
        seed = tf.constant([0, 0])
        traced = pipeline._traced_load.get_concrete_function(item, seed, seed, tf.constant(0))
        names = {node.op for node in traced.graph.as_graph_def().node}
        check = tf.function(lambda value: pass_if(value, value > 0, "text"))
        checked = check.get_concrete_function(tf.constant(1)).graph.as_graph_def()
        names |= {node.op for function in checked.library.function for node in function.node_def}
        self.assertContainsSubset({"ParseExampleV2", "StringToNumber"}, names)
        self.assertEmpty([name for name in names if op_def_registry.get(name).is_stateful])


if __name__ == "__main__":
    tf.test.main()
