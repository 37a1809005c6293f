"""Spectrogram forcing: the target by hand, the front end alone, a run that goes on."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from esc_tf import report
from esc_tf.config import Experiment, build_experiment
from esc_tf.config.loading import merge
from esc_tf.data import build_dataset, load_clips, load_data_set
from esc_tf.errors import RequestError
from esc_tf.evaluation.forced_examples import read_forced_examples
from esc_tf.frontends import build_front_end
from esc_tf.tasks.classifier import build_classifier, load_classifier
from esc_tf.training.run_directory import RunDirectory
from esc_tf.training.source_weights import name_layers
from esc_tf.training.split_file import split_experiment
from tests.config.base import problems_with
from tests.tiny import TINY
from tests.trained_tones import call
from tests.training.test_experiment import TrainingTestCase, without_times

_BANDS, _HOP = 12, 500
_TARGET: dict[str, Any] = {
    "name": "log_mel",
    "n_fft": 512,
    "hop_length": _HOP,
    "n_mels": _BANDS,
    "num_frames": 8,
}
_LEARNS = {
    "name": "mstnet",
    "filters": [16, 16, _BANDS],
    "kernel_sizes": [256, 3, 3],
    "hop_length": _HOP,
}


class ForcingTest(TrainingTestCase):
    def forced(self, target: dict[str, Any] = _TARGET, **recipe: Any) -> Experiment:
        raw = merge(
            TINY,
            {
                "front_end": _LEARNS,
                "augment": {
                    "mixup": None,
                    "frequency_mask": None,
                    "noise": None,
                    "time_shift": None,
                },
                "data": {"cache_dir": str(self.folder / "cache")},
                "recipe": {
                    "epochs": 3,
                    "optimizer": {"name": "adam", "learning_rate": 1e-3},
                    "schedule": {"name": "constant"},
                    "early_stopping": None,
                    "monitor": "validation_loss",
                    "spectrogram_forcing": {"target": target},
                    **recipe,
                },
            },
        )
        return build_experiment(raw)

    def test_the_error_is_that_of_a_plain_computation(self) -> None:
        experiment = self.forced(epochs=6, batch_size=2)
        result = self.train("run", experiment)
        _, clips, _ = load_clips(experiment.data, experiment.audio, experiment.seed)
        split = split_experiment(experiment, clips)

        def read(part: Any) -> Any:
            batches = build_dataset(
                part, audio=experiment.audio, num_classes=10, batch_size=20, training=False
            )
            return np.concatenate([batch["waveform"] for batch in batches])

        mel = build_front_end(experiment.recipe.spectrogram_forcing.target, 8000)
        trained_on = mel(read(split.train)).numpy()
        low, high = trained_on.min(), trained_on.max()
        forced = result.metrics["spectrogram_forcing"]
        np.testing.assert_allclose(forced["target_range"], [low, high], rtol=1e-5)
        facts = RunDirectory(self.folder / "run").read_resolved()[1]
        self.assertEqual(facts["spectrogram_forcing"]["target_range"], forced["target_range"])

        model = load_classifier(self.folder / "run")
        for part in ("validation", "test"):
            waveform = read(getattr(split, part))
            target = 2.0 * (mel(waveform).numpy() - low) / (high - low) - 1.0
            error = np.mean(np.square(model.extract_features(waveform).numpy() - target))
            # Measured: below 1e-6 of it.
            np.testing.assert_allclose(forced[part]["mse"], error, rtol=1e-4)
            self.assertEqual(forced[part]["num_heard"], 20)
        lines = self.logged("run")
        self.assertLen(lines, 6)
        # Measured: 0.62 of it.
        self.assertLess(lines[-1]["loss"], 0.8 * lines[0]["loss"])
        best = min(line["validation_loss"] for line in lines)
        np.testing.assert_allclose(forced["validation"]["mse"], best, rtol=1e-4)
        # There is nothing to be said of classes.
        self.assertNoCommonElements({"accuracy", "validation_accuracy"}, lines[0])
        self.assertNoCommonElements({"test", "validation"}, result.metrics)

        examples = read_forced_examples(self.folder / "run")
        assert examples is not None
        self.assertEqual(examples.learnt.shape, (8, 8, _BANDS))
        ids = [clip.record.clip_id for clip in split.validation]
        places = [ids.index(name) for name in examples.clip_ids]
        self.assertEqual((places[0], places[-1]), (0, 19))
        chosen = read(split.validation)[places]
        expected = 2.0 * (mel(chosen).numpy() - low) / (high - low) - 1.0
        np.testing.assert_allclose(examples.target, expected[..., 0], atol=1e-5)
        learnt = model.extract_features(chosen).numpy()[..., 0]
        np.testing.assert_allclose(examples.learnt, learnt, atol=1e-5)

        code, _, err = call(report, str(self.folder / "run"))
        self.assertEqual((code, err), (0, ""))
        page = (self.folder / "run" / "report" / "index.html").read_text()
        self.assertIn("Spectrogram forcing", page)
        self.assertIn(f"learnt spectrogram of {examples.clip_ids[0]}", page)
        self.assertIn("trained a front end alone, which knows no classes", page)
        self.assertNotIn("Nothing was measured", page)

    def test_the_layers_behind_the_front_end_stay_as_they_began(self) -> None:
        experiment = self.forced()
        data_set = load_data_set(experiment.data, experiment.audio, experiment.seed)
        donor = build_classifier(experiment, data_set.label_names)
        source = self.folder / "source.keras"
        donor.save(source)
        self.train("run", self.forced(epochs=1, fine_tuning={"source": str(source)}))
        began = name_layers(donor)
        for name, layer in name_layers(load_classifier(self.folder / "run")).items():
            pairs = zip(layer.get_weights(), began[name].get_weights(), strict=True)
            same = all(np.array_equal(one, other) for one, other in pairs)
            self.assertEqual(same, not name.startswith("front_end/"), name)

    def test_a_resumed_run_is_the_whole_one(self) -> None:
        self.train("whole", self.forced())
        self.train("parts", self.forced(epochs=1))
        self.train("parts", self.forced(), resume=True)
        whole, parts = (without_times(self.logged(name)) for name in ("whole", "parts"))
        self.assertEqual(whole, parts)
        metrics = [
            json.loads((self.folder / name / "metrics.json").read_text())["spectrogram_forcing"]
            for name in ("whole", "parts")
        ]
        self.assertEqual(*metrics)

    def test_a_target_of_another_size_is_refused(self) -> None:
        with self.assertRaisesRegex(
            RequestError, "target: has 8 frames of 13 bands, and front_end mstnet makes 8 of 12"
        ):
            self.train("run", self.forced({**_TARGET, "n_mels": 13}))
        self.assertFalse((self.folder / "run").exists())


def test_what_does_not_go_with_it_is_refused() -> None:
    target = "{target: {name: log_mel, n_mels: 60, num_frames: 41}}"
    forcing = f"recipe.spectrogram_forcing={target}"
    for overrides, words in (
        ((forcing,), "front_end log_mel has nothing that could learn"),
        ((forcing, "front_end={name: mstnet}"), "recipe.monitor: validation_accuracy is not"),
        (
            (forcing, "recipe.early_stopping={monitor: validation_accuracy}"),
            "recipe.early_stopping: knows classes",
        ),
        (
            (forcing, "recipe.fine_tuning={source: a.keras, learning_rates: {x: 0.1}}"),
            "recipe.fine_tuning.learning_rates: are those of a whole network",
        ),
        (("recipe.spectrogram_forcing={}",), "recipe.spectrogram_forcing.target: is required"),
        (
            ("recipe.spectrogram_forcing={target: {name: mstnet}}",),
            "recipe.spectrogram_forcing.target.name: must be 'log_mel'",
        ),
    ):
        found = problems_with(*overrides)
        assert any(words in problem for problem in found), (overrides, found)
