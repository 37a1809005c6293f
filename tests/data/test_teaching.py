"""Views: the same sound for a teacher and a student, whatever their rates."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from tensorflow.python.framework import op_def_registry

from esc_tf.augment import build_waveform_augment, build_waveform_mixup
from esc_tf.config import AudioConfig, AugmentConfig, Esc50DataConfig, SyntheticDataConfig
from esc_tf.config.augment import GainConfig, MixupConfig, NoiseConfig, RollConfig, TimeShiftConfig
from esc_tf.data import build_pipeline, load_clips
from esc_tf.data.teaching import SecondHearing, Teaching, Views, digest_original, make_views
from esc_tf.errors import DataError
from tests.data.folder import FolderTestCase, write_folder

RATE_HZ = 8000
AUDIO = AudioConfig(sample_rate_hz=RATE_HZ, duration_s=0.15, crop="random")
MOVES = AugmentConfig(
    roll=RollConfig(), time_shift=TimeShiftConfig(probability=1.0), gain=GainConfig(probability=1.0)
)
NUM_VIEWS = 3


class SeedTest(tf.test.TestCase):
    def test_seeds_depend_on_clip_view_and_seed_alone(self):
        views = make_views(["a", "b", "c"], NUM_VIEWS, seed=7)
        self.assertEqual((views.seeds.shape, views.seeds.dtype), ((3, NUM_VIEWS, 2), np.int32))
        self.assertAllEqual(views.is_clean, [True, False, False])
        self.assertEqual(views.count, NUM_VIEWS)
        self.assertLen(np.unique(views.seeds.reshape(-1, 2), axis=0), 3 * NUM_VIEWS)
        fewer = make_views(["c", "a"], 2, seed=7)
        self.assertAllEqual(fewer.seeds, views.seeds[[2, 0], :2])
        other = make_views(["a"], NUM_VIEWS, seed=8)
        self.assertFalse((other.seeds == views.seeds[:1]).all(axis=2).any())


class ViewTest(FolderTestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        write_folder(self.root / "set", folds=2, clips=2)
        self.config = Esc50DataConfig(
            name="esc50", root=str(self.root / "set"), cache_dir=str(self.root / "cache")
        )
        self.clips = self.load(RATE_HZ)
        self.views = make_views([clip.record.clip_id for clip in self.clips], NUM_VIEWS, seed=0)

    def load(self, rate_hz):
        audio = AUDIO.model_copy(update={"sample_rate_hz": rate_hz})
        return load_clips(self.config, audio, 0)[1]

    def pipeline(self, clips=None, audio=AUDIO, augment=MOVES, training=False, **options):
        clips = self.clips if clips is None else clips
        return build_pipeline(
            clips,
            audio=audio,
            num_classes=3,
            batch_size=len(clips),
            training=training,
            augment_waveform=build_waveform_augment(augment, audio),
            **options,
        )

    def hear(self, pipeline, epoch):
        (batch,) = pipeline.epoch(epoch)
        order = np.argsort(batch["index"])
        return {key: value.numpy()[order] for key, value in batch.items()}

    def test_an_epoch_hears_its_view_whether_it_trains_or_not(self):
        teaching = Teaching(views=self.views)
        listening = self.pipeline(teaching=teaching)
        heard = [self.hear(listening, view)["waveform"] for view in range(NUM_VIEWS)]
        for one, other in ((0, 1), (1, 2), (0, 2)):
            self.assertTrue((np.abs(heard[one] - heard[other]).max(axis=1) > 0.01).all())
        # Neither the seed nor the order of the clips changes a view.
        shuffled = [3, 0, 5, 1, 4, 2]
        student = self.pipeline(
            [self.clips[place] for place in shuffled],
            training=True,
            seed=5,
            teaching=Teaching(views=Views(self.views.seeds[shuffled], self.views.is_clean)),
        )
        for epoch in (0, 1, 5):
            self.assertAllEqual(
                self.hear(student, epoch)["waveform"], heard[epoch % NUM_VIEWS][shuffled]
            )

    def test_the_first_view_is_clean(self):
        plain = AUDIO.model_copy(update={"crop": "center"})
        teaching = Teaching(views=self.views)
        heard = self.hear(self.pipeline(audio=plain, teaching=teaching), 0)
        clean = self.hear(self.pipeline(audio=plain, augment=AugmentConfig()), 0)
        self.assertAllEqual(heard["waveform"], clean["waveform"])
        self.assertGreater(np.abs(heard["waveform"]).max(), 0.1)

    @parameterized.named_parameters(
        ("roll", AugmentConfig(roll=RollConfig())),
        ("short_roll", AugmentConfig(roll=RollConfig(max_shift_s=0.02))),
        ("time_shift", AugmentConfig(time_shift=TimeShiftConfig(probability=1.0))),
        ("gain", AugmentConfig(gain=GainConfig(probability=1.0))),
    )
    def test_a_view_is_the_same_at_another_rate(self, augment):
        times = 4
        audio = AUDIO.model_copy(update={"sample_rate_hz": times * RATE_HZ, "crop": "start"})
        low = AUDIO.model_copy(update={"crop": "start"})
        # Pulses far apart, of the same height at both rates.
        pulses = np.zeros((len(self.clips), 1200), np.float32)
        pulses[:, [100, 700]] = [0.5, 1.0]
        found = {}
        for name, form, factor in (("low", low, 1), ("high", audio, times)):
            waveform = np.zeros((len(pulses), 1200 * factor), np.float32)
            waveform[:, ::factor] = pulses
            augment_waveform = build_waveform_augment(augment, form)
            rows = [
                augment_waveform(
                    tf.constant(row), tf.constant(row.size), tf.constant(self.views.seeds[clip, 1])
                ).numpy()
                for clip, row in enumerate(waveform)
            ]
            places = np.array([np.argmax(row) for row in rows])
            found[name] = (places / form.sample_rate_hz, np.max(rows, axis=1))
        self.assertAllClose(found["low"][0], found["high"][0], rtol=0, atol=1.0 / RATE_HZ)
        self.assertAllClose(found["low"][1], found["high"][1])
        moved = not np.allclose(found["low"][0], 700 / RATE_HZ)
        self.assertTrue(moved or not np.allclose(found["low"][1], 1.0))

    def test_no_operation_has_a_state_and_nothing_is_traced_anew(self):
        augment = AugmentConfig(noise=NoiseConfig(), roll=RollConfig())
        audio = AUDIO.model_copy(update={"sample_rate_hz": 2 * RATE_HZ})
        second = SecondHearing(
            self.load(2 * RATE_HZ), audio, build_waveform_augment(augment, audio)
        )
        targets = np.zeros((len(self.clips), NUM_VIEWS, 3), np.float32)
        pipeline = self.pipeline(
            augment=augment, training=True, teaching=Teaching(self.views, targets, second)
        )
        for epoch in range(3):
            list(pipeline.epoch(epoch))
        self.assertEqual(pipeline._traced_load.experimental_get_tracing_count(), 1)
        number, seed = tf.constant(0), tf.constant([0, 0])
        traced = pipeline._traced_load.get_concrete_function(
            {"position": number, "index": number}, seed, seed, number
        )
        graph = traced.graph.as_graph_def()
        functions = [node for function in graph.library.function for node in function.node_def]
        operations = {node.op for node in [*graph.node, *functions]}
        stateful = [name for name in operations if op_def_registry.get(name).is_stateful]
        self.assertEmpty(set(stateful) - {"PartitionedCall"})

    def test_a_second_hearing_is_the_same_view_at_its_rate(self):
        audio = AUDIO.model_copy(update={"sample_rate_hz": 2 * RATE_HZ})
        clips = self.load(2 * RATE_HZ)
        second = SecondHearing(clips, audio, build_waveform_augment(MOVES, audio))
        student = self.pipeline(training=True, seed=3, teaching=Teaching(second=second))
        batch = self.hear(student, 1)
        self.assertEqual(batch["teacher_waveform"].shape, (len(clips), 2400))
        self.assertAllEqual(batch["teacher_num_samples"] // 2, batch["num_samples"])
        # The same training at the other rate hears the same.
        alone = self.hear(self.pipeline(clips, audio=audio, training=True, seed=3), 1)
        self.assertAllEqual(batch["teacher_waveform"], alone["waveform"])

    def test_noise_keeps_its_level_at_another_rate(self):
        augment = AugmentConfig(noise=NoiseConfig(probability=1.0, colors=["white"]))
        for rate_hz in (RATE_HZ, 2 * RATE_HZ):
            audio = AUDIO.model_copy(update={"sample_rate_hz": rate_hz, "crop": "start"})
            clips = self.load(rate_hz)
            teaching = Teaching(views=self.views)
            pipeline = self.pipeline(clips, audio, augment, teaching=teaching)
            clean, noisy = (self.hear(pipeline, view)["waveform"] for view in (0, 1))
            power = np.square(clean).sum(axis=1) / np.square(noisy - clean).sum(axis=1)
            self.assertAllClose(10 * np.log10(power), np.full(len(clips), 15.0), atol=1e-3)

    def test_targets_go_with_their_views_and_are_mixed_like_labels(self):
        targets = np.random.default_rng(0).uniform(size=(len(self.clips), NUM_VIEWS, 3))
        teaching = Teaching(targets=targets.astype(np.float32))
        pipeline = self.pipeline(training=True, teaching=teaching)
        for epoch in (0, 1, 4):
            batch = self.hear(pipeline, epoch)
            self.assertAllClose(batch["taught"], targets[:, epoch % NUM_VIEWS])
        same = np.eye(3)[[clip.record.label_id for clip in self.clips]][:, None]
        mixed = self.pipeline(
            training=True,
            teaching=Teaching(targets=same.astype(np.float32)),
            draw=lambda seed: {"draw/mixup_weight": tf.constant(0.7)},
            mix_batch=build_waveform_mixup(AugmentConfig(mixup=MixupConfig(on="waveform"))),
        )
        (batch,) = mixed.epoch(0)
        self.assertAllClose(batch["taught"], batch["label"])
        self.assertLess(float(tf.reduce_max(tf.abs(batch["label"] - 0.5))), 0.51)
        self.assertIn(np.float32(0.7), batch["label"].numpy().round(6))

    def test_digests_are_those_of_the_originals(self):
        again = self.load(2 * RATE_HZ)
        digests = [digest_original(clip) for clip in self.clips]
        self.assertEqual(digests, [digest_original(clip) for clip in again])
        self.assertLen(set(digests), len(self.clips))
        self.assertNotEqual(self.clips[0].content_digest, again[0].content_digest)
        gone = dataclasses.replace(self.clips[0].record, path=self.root / "gone.wav")
        with self.assertRaisesRegex(DataError, "gone.wav: cannot be read"):
            digest_original(dataclasses.replace(self.clips[0], record=gone))

    def test_generated_sounds_are_others_at_another_rate(self):
        config = SyntheticDataConfig(
            name="synthetic", clips_per_class_and_fold=1, cache_dir=str(self.root / "cache")
        )
        low, high = (
            load_clips(config, AUDIO.model_copy(update={"sample_rate_hz": rate_hz}), 0)[1][0]
            for rate_hz in (4000, 8000)
        )
        self.assertNotEqual(digest_original(low), digest_original(high))
