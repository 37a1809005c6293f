"""Naming sounds without TensorFlow: .tflite files, the package's own model, and `other`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from esc_tf import evaluate, predict
from esc_tf.audio import read_clip, resample
from esc_tf.shipped import ShippedModel
from esc_tf.tasks.classifier import load_classifier
from export import __main__ as export_command
from export.graphs import InferenceGraphs
from export.metadata import ModelFacts, add_metadata
from export.tflite import convert_tflite
from tests.trained_tones import LABELS, RATE_HZ, TrainedTonesCase, call

ROOT = Path(__file__).resolve().parents[1]
THRESHOLD = 0.75


class LiteRTTest(TrainedTonesCase):
    """The tones' classifier with a threshold: ``model.keras``, ``model.tflite``, their card."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.shipped = cls.folder / "shipped"
        cls.shipped.mkdir()
        model = load_classifier(cls.run_dir)
        model.other_threshold = THRESHOLD
        model.save(cls.shipped / "model.keras")
        facts = ModelFacts(
            "tones", "for tests", "1", LABELS, RATE_HZ, other_threshold=model.other_threshold
        )
        content = add_metadata(convert_tflite(InferenceGraphs(model), "float32"), facts)
        (cls.shipped / "model.tflite").write_bytes(content)
        card = {
            "name": "tones",
            "scores": "softmax",
            "input": {"shorter_clips": "repeat", "longer_clips": "center"},
        }
        (cls.shipped / "model_card.json").write_text(json.dumps(card))
        rng = np.random.default_rng(0)
        noise = cls.folder / "noise.wav"
        soundfile.write(noise, 0.1 * rng.standard_normal(RATE_HZ // 2), RATE_HZ)
        cls.files = [*map(str, sorted((cls.folder / "tones" / "audio").glob("4-*.wav")))]
        # Another rate and length, in stereo: resampled, and its middle is heard.
        time_s = np.arange(44100) / 44100
        tone = 0.4 * np.sin(2 * np.pi * 900.0 * time_s)
        long = cls.folder / "long.flac"
        soundfile.write(long, np.stack([tone, 0.5 * tone], axis=1), 44100)
        cls.files += [str(long), str(noise)]

    def predict(self, *arguments: str) -> list[dict]:
        code, out, err = call(predict, *arguments, "--json")
        self.assertEqual((code, err), (0, ""))
        return [json.loads(line) for line in out.splitlines()]

    def test_a_file_says_what_its_model_says_without_tensorflow(self) -> None:
        arguments = ["--model", str(self.shipped / "model.tflite"), *self.files, "--json"]
        code = (
            "import sys; from esc_tf import predict; code = predict.main(sys.argv[1:]); "
            "loaded = {'tensorflow', 'keras', 'librosa', 'matplotlib'} & set(sys.modules); "
            "sys.exit(f'loaded {loaded}' if loaded else code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        model = load_classifier(self.run_dir)
        for line, path in zip(lines, self.files, strict=True):
            waveform = resample(read_clip(path), RATE_HZ).waveform
            if path.endswith(".flac"):
                # Fitted as the card of the file says, not as the classifier would.
                self.assertEqual(line["cut_from_s"], 1.0)
                waveform = waveform[2000:6000]
            expected = np.asarray(model(waveform[None])["probabilities"])[0]
            found = {item["label"]: item["score"] for item in line["predictions"]}
            self.assertAllClose([found[name] for name in LABELS], expected, atol=1e-4)
            sure = expected.max() >= THRESHOLD
            self.assertEqual(line["label"], LABELS[expected.argmax()] if sure else "other")
        by_keras = self.predict("--model", str(self.shipped / "model.keras"), *self.files[:6])
        self.assertEqual(
            [line["label"] for line in by_keras], [line["label"] for line in lines[:6]]
        )

    def test_short_clips_are_filled_up_as_the_card_says(self) -> None:
        whole = np.array(soundfile.read(self.files[0], dtype="float32")[0])
        short, repeated = self.folder / "short.wav", self.folder / "repeated.wav"
        soundfile.write(short, whole[:1500], RATE_HZ, subtype="FLOAT")
        soundfile.write(repeated, np.resize(whole[:1500], 4000), RATE_HZ, subtype="FLOAT")
        model = str(self.shipped / "model.tflite")
        one, other = self.predict("--model", model, str(short), str(repeated))
        self.assertEqual(one["predictions"], other["predictions"])
        self.assertAlmostEqual(one["padded_from_s"], 0.1875)

    def test_the_packages_own_model_is_the_default(self) -> None:
        found = ShippedModel(self.shipped, "tones")
        with mock.patch.object(predict, "find_shipped", return_value=found):
            by_default = self.predict(*self.files)
            by_name = self.predict("--model", str(self.shipped / "model.tflite"), *self.files)
            self.assertEqual(by_default, by_name)
            # The classifier is asked where the file cannot do it; this one cannot either.
            code, _, err = call(predict, self.files[0], "--duration", "1")
            self.assertEqual(code, 2)
            self.assertIn("takes clips of 0.5 s only", err)

    def test_the_packages_own_model_is_exported_by_default(self) -> None:
        arguments = export_command.build_parser().parse_args(["--out", "unused"])
        found = ShippedModel(self.shipped, "ours")
        with (
            mock.patch.object(export_command, "find_shipped", return_value=found),
            mock.patch("export.source._generate_parts", return_value=(None, None)),
        ):
            source = export_command._load_source(arguments)
        self.assertEqual((source.path, source.name), (found.keras_file, "ours"))
        self.assertEqual(source.model.other_threshold, THRESHOLD)

    def test_nothing_is_loaded_before_a_missing_default_is_named(self) -> None:
        with mock.patch("esc_tf.predict.find_shipped", side_effect=predict.RequestError("gone")):
            code, _, err = call(predict, self.files[0])
        self.assertEqual((code, err), (2, "error: gone\n"))

    def test_other_is_what_no_class_reaches(self) -> None:
        for name in ("model.tflite", "model.keras"):
            model, noise = str(self.shipped / name), self.files[-1]
            (line,) = self.predict("--model", model, noise)
            best = line["predictions"][0]
            for below, label in ((best["score"] + 1e-3, "other"), (0.0, best["label"])):
                (line,) = self.predict("--model", model, noise, "--other-below", str(below))
                self.assertEqual(line["label"], label)
                self.assertEqual(line["predictions"][0], best)
            code, out, _ = call(predict, "--model", model, noise, "--other-below", "1")
            self.assertEqual(code, 0)
            self.assertIn("\n  other: no class reaches 100.00%\n", out)
        code, _, err = call(predict, "--model", model, noise, "--other-below", "2")
        self.assertEqual(code, 2)
        self.assertIn("--other-below must lie between 0 and 1", err)

    def test_recordings_are_heard_by_a_file_as_by_its_model(self) -> None:
        recording = self.folder / "recording.wav"
        parts = [soundfile.read(path)[0] for path in self.files[:6:2]]
        soundfile.write(recording, np.concatenate(parts), RATE_HZ)
        tables = []
        for name in ("model.tflite", "model.keras"):
            out = self.folder / f"of_{name}"
            (summary,) = self.predict(
                *("--model", str(self.shipped / name), str(recording)),
                *("--window", "0.5", "--hop", "0.25", "--other-below", "0.999", "--out", str(out)),
            )
            with (out / "recording.csv").open(newline="") as file:
                tables.append(list(csv.reader(file)))
            scores = np.array(tables[-1][1:], float)[:, 2:]
            self.assertEqual(summary["num_other"], np.sum(scores.max(axis=1) < 0.999))
            self.assertEqual(summary["other_threshold"], 0.999)
        self.assertEqual(tables[0][0], tables[1][0])
        numbers = [np.array(table[1:], float) for table in tables]
        self.assertAllClose(*numbers, atol=1e-4)
        self.assertLen(numbers[0], 5)
        self.assertGreater(len(set(numbers[0][:, 2:].argmax(axis=1))), 1)

    def test_files_that_are_no_models_are_refused(self) -> None:
        bad = self.folder / "bad.tflite"
        bad.write_bytes(b"nothing of the kind")
        damaged = self.folder / "damaged" / "model.tflite"
        damaged.parent.mkdir()
        damaged.write_bytes((self.shipped / "model.tflite").read_bytes())
        (damaged.parent / "model_card.json").write_text("{}")
        for path, message, wanted in (
            (self.folder / "absent.tflite", "no such model", 2),
            (bad, "is not a .tflite file", 1),
            (damaged, "cannot be read as the card of model.tflite", 2),
        ):
            code, _, err = call(predict, "--model", str(path), self.files[0])
            self.assertEqual(code, wanted, err)
            self.assertIn(message, err)
            self.assertEqual(err.count("\n"), 1)

    def test_false_alarms_of_a_model_and_of_its_file_are_counted(self) -> None:
        reports = []
        for name in ("model.tflite", "model.keras"):
            code, out, err = call(
                evaluate,
                *("--model", str(self.shipped / name), "--open-set", "--hours", "0.003", "--json"),
            )
            self.assertEqual((code, err), (0, ""))
            reports.append(json.loads(out))
        for report in reports:
            self.assertEqual(report["threshold"], THRESHOLD)
            self.assertEqual(report["outside"]["window_s"], 0.5)
            self.assertEqual(report["outside"]["kinds"]["noise"]["windows"], 22)
        by_kind = [report["outside"]["kinds"] for report in reports]
        for kind, entry in by_kind[0].items():
            self.assertAllClose(entry["highest"], by_kind[1][kind]["highest"], atol=1e-3)
            self.assertEqual(entry["false_alarms"], by_kind[1][kind]["false_alarms"])

    def test_a_run_chooses_its_threshold_by_its_test_fold(self) -> None:
        code, out, err = call(
            evaluate,
            *("--run-dir", self.run_dir, "--open-set", "--hours", "0.003", "--accept", "0.8"),
            "--json",
        )
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        calibration = report["calibration"]
        self.assertEqual((calibration["clips"], calibration["accepted_share"]), (6, 0.8))
        lines = self.predict("--model", self.run_dir, *self.files[:6], "--top-k", "1")
        scores = sorted(line["predictions"][0]["score"] for line in lines)
        # Five of six are 0.83, four would be less than 0.8.
        self.assertAllClose(calibration["threshold"], scores[1], atol=1e-5)
        self.assertAllClose(calibration["accepted"], 5 / 6)
        self.assertEqual(set(report["scores"]), {"max_probability", "energy", "entropy"})

    def test_open_set_refuses_what_does_not_go_together(self) -> None:
        run, model = ("--run-dir", self.run_dir), ("--model", str(self.shipped / "model.keras"))
        for arguments, message in (
            ((*run, "--hours", "1"), "--hours goes with --open-set"),
            ((*run, "--open-set", "--hours", "0"), "--hours must be above 0"),
            ((*run, "--open-set", "--accept", "2"), "--accept must lie between 0 and 1"),
            ((*run, "--open-set", "--fold", "1"), "--fold does not go with --open-set"),
            ((*run, "--open-set", "--other-below", "0.5"), "--other-below goes with --model"),
            ((*model, "--open-set", "--accept", "0.5"), "--accept goes with --run-dir"),
            (("--model", self.run_dir, "--open-set"), "has no threshold of its own"),
            (("--run-dir", str(self.folder), "--open-set"), "neither a finished run nor"),
        ):
            code, _, err = call(evaluate, *arguments)
            self.assertEqual(code, 2)
            self.assertIn(message, err)
