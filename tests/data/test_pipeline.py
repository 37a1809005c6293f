from __future__ import annotations

import shutil
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.python.framework import op_def_registry

from esc_tf.augment import (
    build_batch_augment,
    build_feature_draw,
    build_waveform_augment,
    build_waveform_mixup,
)
from esc_tf.config import AudioConfig, AugmentConfig, Esc50DataConfig, RecipeConfig
from esc_tf.config.augment import (
    FrequencyMaskConfig,
    GainConfig,
    MixupConfig,
    NoiseConfig,
    OutlierConfig,
    TimeMaskConfig,
    TimeShiftConfig,
)
from esc_tf.data import decoded_cache
from esc_tf.data.batches import build_dataset
from esc_tf.data.clips import load_clips
from esc_tf.data.pipeline import ClipPipeline, EpochPart
from esc_tf.errors import DataError
from tests.data.folder import FolderTestCase, write_folder

# Clips of the folder last 0.1 to 0.2 s, so that some are padded and some cropped.
AUDIO = AudioConfig(sample_rate_hz=8000, duration_s=0.15, crop="random")
NUM_SAMPLES = 1200
AUGMENT = AugmentConfig(
    noise=NoiseConfig(probability=0.5),
    time_shift=TimeShiftConfig(probability=0.5),
    gain=GainConfig(probability=0.5),
    frequency_mask=FrequencyMaskConfig(num_masks=2),
    time_mask=TimeMaskConfig(),
    mixup=MixupConfig(on="waveform"),
)


class PipelineTest(FolderTestCase):
    def setUp(self):
        super().setUp()
        write_folder(self.root / "set", folds=2, clips=4)
        config = Esc50DataConfig(
            name="esc50", root=str(self.root / "set"), cache_dir=str(self.root / "cache")
        )
        _, self.clips, _ = load_clips(config, AUDIO, 0)

    def pipeline(self, training=True, batch_size=5, audio=AUDIO, augment=None, **options):
        if augment is not None:
            options["augment_waveform"] = build_waveform_augment(augment, audio)
            options["draw"] = build_feature_draw(augment)
            options["mix_batch"] = build_waveform_mixup(augment)
        return ClipPipeline(
            self.clips,
            audio=audio,
            num_classes=3,
            batch_size=batch_size,
            training=training,
            **options,
        )

    def waveform(self, index):
        return np.frombuffer(self.clips[index].cache_path.read_bytes()[64:], "<f4")

    def test_batches_hold_what_they_promise(self):
        data = self.pipeline(augment=AUGMENT).epoch(0)
        spec = {key: (tuple(part.shape), part.dtype) for key, part in data.element_spec.items()}
        self.assertEqual(
            spec,
            {
                "waveform": ((5, NUM_SAMPLES), tf.float32),
                "num_samples": ((5,), tf.int32),
                "label": ((5, 3), tf.float32),
                "weight": ((5,), tf.float32),
                "index": ((5,), tf.int32),
                "draw/frequency_mask": ((5, 2, 2), tf.float32),
                "draw/time_mask": ((5, 1, 2), tf.float32),
            },
        )
        for batch in data:
            self.assertTrue(np.isfinite(batch["waveform"]).all())

    def test_evaluation_keeps_the_order_and_fills_up(self):
        pipeline = self.pipeline(training=False)
        batches = list(pipeline.epoch().as_numpy_iterator())
        self.assertLen(batches, pipeline.num_batches)
        index = np.concatenate([batch["index"] for batch in batches])
        weight = np.concatenate([batch["weight"] for batch in batches])
        self.assertAllEqual(index, [*range(24), -1])
        self.assertAllEqual(weight, [1] * 24 + [0])
        rows = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
        for row in range(24):
            waveform = self.waveform(row)
            start = max(waveform.size - NUM_SAMPLES, 0) // 2
            expected = waveform[start : start + NUM_SAMPLES]
            self.assertEqual(rows["num_samples"][row], expected.size)
            expected = np.pad(expected, (0, NUM_SAMPLES - expected.size))
            self.assertAllEqual(rows["waveform"][row], expected)
            label_id = self.clips[row].record.label_id
            self.assertAllEqual(rows["label"][row], np.eye(3)[label_id])
        self.assertLess(min(rows["num_samples"]), NUM_SAMPLES)

    def test_evaluation_is_never_augmented(self):
        plain = self.pipeline(training=False).epoch(0)
        augmented = self.pipeline(training=False, augment=AUGMENT).epoch(3)
        for one, other in zip(plain, augmented, strict=True):
            self.assertAllEqual(one["waveform"], other["waveform"])
            self.assertEqual(one.keys(), other.keys())

    def test_training_shuffles_every_epoch_and_drops_the_rest(self):
        pipeline = self.pipeline()
        orders = [
            np.concatenate([batch["index"] for batch in pipeline.epoch(epoch)])
            for epoch in range(3)
        ]
        for order in orders:
            self.assertLen(set(order), 20)
            self.assertContainsSubset(order, range(24))
        self.assertNotAllEqual(orders[0], orders[1])
        self.assertNotAllEqual(orders[1], orders[2])
        self.assertNotAllEqual(orders[0], sorted(orders[0]))

    def test_a_batch_of_all_clips_holds_each_once(self):
        batches = list(self.pipeline(batch_size=24).epoch(1))
        self.assertLen(batches, 1)
        self.assertCountEqual(batches[0]["index"].numpy().tolist(), range(24))

    def test_outliers_come_again_in_any_part_of_an_epoch(self):
        outliers = AugmentConfig(outlier=OutlierConfig(probability=0.5), mixup=MixupConfig())
        recipe = RecipeConfig()

        def build():
            return self.pipeline(
                draw=build_feature_draw(outliers),
                mix_batch=build_batch_augment(outliers, AUDIO, recipe),
            )

        whole = list(build().epoch(1))
        self.assertBetween(sum(sum(batch["is_outlier"].numpy()) for batch in whole), 3, 17)
        rest = list(build().epoch(1, EpochPart(first_batch=2)))
        self.assertLen(rest, len(whole) - 2)
        for one, other in zip(whole[2:], rest, strict=True):
            self.assertEqual(one.keys(), other.keys())
            for key in one:
                self.assertAllEqual(one[key], other[key])
        other_epoch = next(iter(build().epoch(2)))
        self.assertNotAllEqual(whole[0]["is_outlier"], other_epoch["is_outlier"])

    @parameterized.parameters("waveform", "features")
    def test_same_seed_and_epoch_give_the_same_bits(self, mixup_on):
        augment = AUGMENT.model_copy(update={"mixup": MixupConfig(on=mixup_on)})
        first = list(self.pipeline(augment=augment, seed=3).epoch(2))
        # Built anew, as after a restart, and run on another epoch before.
        pipeline = self.pipeline(augment=augment, seed=3)
        list(pipeline.epoch(1))
        again = list(pipeline.epoch(2))
        self.assertLen(first, 4)
        for one, other in zip(first, again, strict=True):
            self.assertEqual(one.keys(), other.keys())
            for key in one:
                self.assertAllEqual(one[key], other[key])
                self.assertTrue(np.isfinite(one[key]).all())

    @parameterized.parameters(
        ({"seed": 4}, 2, True), ({}, 3, True), ({"augment_seed": 7}, 2, False)
    )
    def test_what_a_seed_changes(self, change, epoch, changes_order):
        def gather(epoch, **options):
            batches = list(self.pipeline(augment=AUGMENT, **{"seed": 3, **options}).epoch(epoch))
            return {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}

        one, other = gather(2), gather(epoch, **change)
        self.assertEqual(not np.array_equal(one["index"], other["index"]), changes_order)
        self.assertNotAllEqual(one["waveform"], other["waveform"])
        self.assertNotAllEqual(one["draw/frequency_mask"], other["draw/frequency_mask"])

    def test_a_clip_is_augmented_alike_in_any_batch(self):
        """A clip's draws depend on the clip and the epoch, not on its neighbours."""
        augment = AUGMENT.model_copy(update={"mixup": None})
        rows = []
        for batch_size in (4, 6):
            epoch = self.pipeline(batch_size=batch_size, augment=augment).epoch(0)
            rows.append(
                {
                    int(index): waveform
                    for batch in epoch.as_numpy_iterator()
                    for index, waveform in zip(batch["index"], batch["waveform"], strict=True)
                }
            )
        self.assertLen(rows[0], 24)
        for index, waveform in rows[0].items():
            self.assertAllEqual(waveform, rows[1][index])

    def test_every_clip_and_epoch_has_draws_of_its_own(self):
        audio = AUDIO.model_copy(update={"crop": "start"})
        augment = AugmentConfig(
            gain=GainConfig(probability=1.0), frequency_mask=FrequencyMaskConfig()
        )
        pipeline = self.pipeline(audio=audio, augment=augment, batch_size=24)
        gains, places = {}, {}
        for epoch in (0, 1):
            (batch,) = pipeline.epoch(epoch).as_numpy_iterator()
            for row, index in enumerate(batch["index"]):
                clean = self.waveform(index)[:800]
                gains[epoch, index] = np.dot(clean, batch["waveform"][row][:800]) / clean.dot(clean)
                places[epoch, index] = batch["draw/frequency_mask"][row, 0, 1]
        for draws in (gains, places):
            self.assertLen(draws, 48)
            self.assertLen(set(np.round(list(draws.values()), 6)), 48)

    def test_every_epoch_crops_elsewhere(self):
        pipeline = self.pipeline(batch_size=24)
        crops = []
        for epoch in (0, 1):
            (batch,) = pipeline.epoch(epoch).as_numpy_iterator()
            crops.append(batch["waveform"][np.argsort(batch["index"])])
        is_long = np.array([clip.num_samples > NUM_SAMPLES + 50 for clip in self.clips])
        differs = (crops[0] != crops[1]).any(axis=1)
        # One in fifty could be cropped alike by chance.
        self.assertGreater(np.mean(differs[is_long]), 0.7)
        self.assertFalse(differs[[clip.num_samples <= NUM_SAMPLES for clip in self.clips]].any())

    @parameterized.product(pad=("end", "center", "repeat"), crop=("start", "center", "random"))
    def test_padding_and_cropping_rules(self, pad, crop):
        audio = AUDIO.model_copy(update={"pad": pad, "crop": crop})
        starts = []
        for batch in self.pipeline(audio=audio, batch_size=24).epoch(0).as_numpy_iterator():
            for row in range(24):
                waveform = self.waveform(batch["index"][row])
                found, valid = batch["waveform"][row], batch["num_samples"][row]
                surplus = waveform.size - NUM_SAMPLES
                if surplus > 0:
                    windows = np.lib.stride_tricks.sliding_window_view(waveform, NUM_SAMPLES)
                    places = np.flatnonzero((windows == found).all(axis=1))
                    self.assertLen(places, 1)
                    starts.append(places[0] / surplus)
                    wanted = {"start": 0, "center": surplus // 2, "random": places[0]}[crop]
                    self.assertEqual((places[0], valid), (wanted, NUM_SAMPLES))
                    continue
                before = -surplus // 2
                expected = {
                    "end": np.pad(waveform, (0, -surplus)),
                    "center": np.pad(waveform, (before, -surplus - before)),
                    "repeat": np.tile(waveform, 2)[:NUM_SAMPLES],
                }[pad]
                self.assertAllEqual(found, expected)
                self.assertEqual(valid, waveform.size if pad == "end" else NUM_SAMPLES)
        self.assertBetween(len(starts), 4, 20)
        if crop == "random":
            self.assertGreater(np.ptp(starts), 0.5)

    def test_later_epochs_decode_nothing(self):
        """Neither read_clip nor the original files are needed once the cache is filled."""
        shutil.rmtree(self.root / "set" / "audio")
        with mock.patch.object(decoded_cache, "read_clip", side_effect=AssertionError):
            pipeline = self.pipeline(augment=AUGMENT)
            for epoch in (0, 1):
                self.assertLen(list(pipeline.epoch(epoch)), 4)

    def test_no_operation_has_a_state(self):
        """Under op determinism tf.data runs stateful maps one by one, so there must be none."""
        pipeline = self.pipeline(augment=AUGMENT)
        number, seed = tf.constant(0), tf.constant([0, 0])
        traced = pipeline._traced_load.get_concrete_function(
            {"position": number, "index": number}, seed, seed, number
        )
        graph = traced.graph.as_graph_def()
        functions = [node for function in graph.library.function for node in function.node_def]
        operations = {node.op for node in [*graph.node, *functions]}
        self.assertIn("IRFFT", operations)
        self.assertIn("ReadFile", operations)
        stateful = [name for name in operations if op_def_registry.get(name).is_stateful]
        self.assertEmpty(set(stateful) - {"PartitionedCall"})

    def test_an_epoch_traces_nothing_anew(self):
        pipeline = self.pipeline(augment=AUGMENT)
        for epoch in range(3):
            list(pipeline.epoch(epoch))
        self.assertEqual(pipeline._traced_load.experimental_get_tracing_count(), 1)
        self.assertEqual(pipeline._traced_mix.experimental_get_tracing_count(), 1)

    def test_requests_that_cannot_be(self):
        with self.assertRaisesRegex(DataError, "recipe.batch_size: 25 .* 24 training clips"):
            self.pipeline(batch_size=25)
        self.assertLen(list(self.pipeline(training=False, batch_size=25).epoch()), 1)
        self.clips = []
        with self.assertRaisesRegex(DataError, "no clips"):
            self.pipeline()

    def test_build_dataset_is_one_epoch_of_the_pipeline(self):
        data = build_dataset(
            self.clips, audio=AUDIO, num_classes=3, batch_size=5, training=True, seed=9, epoch=4
        )
        for one, other in zip(data, self.pipeline(seed=9).epoch(4), strict=True):
            self.assertAllEqual(one["waveform"], other["waveform"])
            self.assertAllEqual(one["index"], other["index"])


if __name__ == "__main__":
    tf.test.main()
