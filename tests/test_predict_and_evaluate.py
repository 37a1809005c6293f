"""A trained run applied: to its test fold, to another folder, to files of all kinds."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf import evaluate, predict
from esc_tf.tasks.classifier import load_classifier
from tests.trained_tones import LABELS, RATE_HZ, TrainedTonesCase, call, write_tones


class TrainedRunTest(TrainedTonesCase):
    def test_evaluate_repeats_the_runs_own_numbers(self) -> None:
        code, out, _ = call(evaluate, "--run-dir", self.run_dir, "--json")
        self.assertEqual(code, 0)
        metrics = json.loads(out)
        own = json.loads((Path(self.run_dir) / "metrics.json").read_text())["test"]
        self.assertEqual(metrics["confusion_matrix"], own["confusion_matrix"])
        self.assertEqual(metrics["num_clips"], 6)
        # Three tones almost two octaves apart are not hard.
        self.assertGreaterEqual(metrics["accuracy"], 0.8)
        code, out, _ = call(evaluate, "--run-dir", self.run_dir)
        self.assertIn(f"{own['accuracy']:.4f}", out)

    def test_evaluate_warns_of_folds_it_trained_on_and_refuses_unknown_ones(self) -> None:
        code, out, err = call(evaluate, "--run-dir", self.run_dir, "--fold", "1", "--json")
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 6))
        self.assertIn("trained or validated on fold 1", err)
        code, _, err = call(evaluate, "--run-dir", self.run_dir, "--fold", "7")
        self.assertEqual(code, 2)
        self.assertRegex(err, r"fold 7 does not exist \(there are: 1, 2, 3, 4\)")

    def test_evaluate_another_folder_takes_the_known_classes(self) -> None:
        other = Path(tempfile.mkdtemp(dir=self.folder)) / "other"
        write_tones(other, (1, 5), ("low", "middle", "high", "unheard"))
        code, out, _ = call(
            evaluate, "--run-dir", self.run_dir, "--data-root", str(other), "--json"
        )
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 12))
        code, out, _ = call(
            evaluate, "--run-dir", self.run_dir, "--data-root", str(other), "--fold", "5", "--json"
        )
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 6))
        strange = Path(tempfile.mkdtemp(dir=self.folder)) / "strange"
        write_tones(strange, (1,), ("cat", "cow"))
        code, _, err = call(evaluate, "--run-dir", self.run_dir, "--data-root", str(strange))
        self.assertEqual(code, 2)
        self.assertIn("no clip has a class that the model knows", err)

    def test_evaluate_a_model_without_its_run(self) -> None:
        model_file = str(Path(self.run_dir) / "model.keras")
        tones = str(self.folder / "tones")
        arguments = ("--model", model_file, "--data-root", tones, "--json")
        code, out, _ = call(evaluate, *arguments, "--fold", "4")
        self.assertEqual(code, 0)
        own = json.loads((Path(self.run_dir) / "metrics.json").read_text())["test"]
        metrics = json.loads(out)
        self.assertEqual(metrics["confusion_matrix"], own["confusion_matrix"])

        # The classes of the data, read from other labels of the model.
        label_map = Path(tempfile.mkdtemp(dir=self.folder)) / "map.yaml"
        label_map.write_text("labels: {high: [low], low: [high, middle]}")
        code, out, _ = call(evaluate, *arguments, "--label-map", str(label_map))
        self.assertEqual(code, 0)
        mapped = json.loads(out)
        self.assertEqual(mapped["num_clips"], 16)  # those of low and high, in all four folds
        self.assertEqual([row["label_name"] for row in mapped["per_class"]], ["high", "low"])
        self.assertLessEqual(mapped["accuracy"], 0.2)  # the map has them the wrong way round

    def test_evaluate_recognizes_a_folder_with_a_folder_a_class(self) -> None:
        root = Path(tempfile.mkdtemp(dir=self.folder))
        for path in sorted((self.folder / "tones" / "audio").glob("4-*.wav")):
            target = root / LABELS[int(path.stem[-1])]
            target.mkdir(exist_ok=True)
            shutil.copy(path, target)
        code, out, _ = call(evaluate, "--model", self.run_dir, "--data-root", str(root), "--json")
        self.assertEqual((code, json.loads(out)["num_clips"]), (0, 6))

    def test_evaluate_refuses_what_does_not_go_together(self) -> None:
        for arguments, message in {
            ("--model", self.run_dir): "--model needs --data-root",
            ("--run-dir", self.run_dir, "--label-map", "m.yaml"): "--label-map goes with --model",
            ("--run-dir", self.run_dir, "--duration", "1"): "--duration goes with --model",
            ("--json",): "one of the arguments --run-dir --model is required",
            (
                *("--model", self.run_dir, "--data-root", str(self.folder / "tones")),
                *("--duration", "1"),
            ): "takes clips of 0.5 s only",
        }.items():
            with self.subTest(arguments):
                code, _, err = call(evaluate, *arguments)
                self.assertEqual(code, 2)
                self.assertIn(message, err)

    def test_predict_files_folders_and_models(self) -> None:
        files = sorted((self.folder / "tones" / "audio").glob("4-*.wav"))
        code, out, _ = call(predict, "--model", self.run_dir, *map(str, files), "--json")
        self.assertEqual(code, 0)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([line["file"] for line in lines], [str(path) for path in files])
        right = 0
        for path, line in zip(files, lines, strict=True):
            scores = [item["score"] for item in line["predictions"]]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertAllClose(sum(scores), 1.0, atol=1e-5)
            right += line["predictions"][0]["label"] == LABELS[int(path.stem[-1])]
        own = json.loads((Path(self.run_dir) / "metrics.json").read_text())["test"]
        self.assertEqual(right / len(files), own["accuracy"])

        model_file = str(Path(self.run_dir) / "model.keras")
        whole_folder = str(self.folder / "tones" / "audio")
        code, out, _ = call(
            predict, "--model", model_file, whole_folder, "--json", "--batch-size", "5"
        )
        everything = {line["file"]: line for line in map(json.loads, out.splitlines())}
        self.assertLen(everything, 24)
        for line in lines:
            again = everything[line["file"]]["predictions"]
            self.assertEqual(
                [item["label"] for item in again], [item["label"] for item in line["predictions"]]
            )
            # A clip's scores do not depend on its neighbours; measured: below 1e-6.
            self.assertAllClose(
                [item["score"] for item in again],
                [item["score"] for item in line["predictions"]],
                atol=1e-5,
            )
        code, out, _ = call(predict, "--model", self.run_dir, str(files[0]), "--top-k", "2")
        self.assertLen(out.splitlines(), 3)

    def test_predict_says_how_a_clip_was_brought_to_length(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        files = []
        for duration_s in (0.05, 0.3, 0.5, 2.0):
            time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
            files.append(str(folder / f"{duration_s}.wav"))
            soundfile.write(files[-1], 0.5 * np.sin(2 * np.pi * 900.0 * time_s), RATE_HZ)
        code, out, _ = call(predict, "--model", self.run_dir, *files, "--top-k", "1")
        self.assertEqual(code, 0)
        self.assertEqual(
            [line for line in out.splitlines() if line.startswith("/")],
            [
                f"{files[0]} (padded from 0.05 s to 0.5 s with silence)",
                f"{files[1]} (padded from 0.3 s to 0.5 s with silence)",
                files[2],
                f"{files[3]} (the first 0.5 s of 2 s; --window hears all)",
            ],
        )
        code, out, _ = call(predict, "--model", self.run_dir, *files, "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        for line in lines:
            self.assertTrue(np.isfinite([item["score"] for item in line["predictions"]]).all())
            # Without a threshold there is always a class.
            self.assertEqual(line["label"], line["predictions"][0]["label"])
            del line["file"], line["label"], line["predictions"]
        self.assertEqual(lines[0], {"padded_from_s": 0.05, "padded_to_s": 0.5})
        self.assertEqual(lines[1], {"padded_from_s": 0.3, "padded_to_s": 0.5})
        self.assertEqual(lines[2:], [{}, {"cut_from_s": 2.0, "cut_to_s": 0.5}])

    def test_predict_through_a_label_map(self) -> None:
        file = str(next((self.folder / "tones" / "audio").glob("4-*.wav")))
        label_map = Path(tempfile.mkdtemp(dir=self.folder)) / "map.yaml"
        label_map.write_text("labels: {bass: [low], others: [high, middle]}")
        arguments = ("--model", self.run_dir, file, "--json")
        _, out, _ = call(predict, *arguments)
        plain = {item["label"]: item["score"] for item in json.loads(out)["predictions"]}
        code, out, _ = call(predict, *arguments, "--label-map", str(label_map))
        mapped = {item["label"]: item["score"] for item in json.loads(out)["predictions"]}
        self.assertEqual(code, 0)
        self.assertEqual(
            mapped, {"bass": plain["low"], "others": max(plain["high"], plain["middle"])}
        )
        label_map.write_text("labels: {bass: [lov]}")
        code, _, err = call(predict, *arguments, "--label-map", str(label_map))
        self.assertEqual(code, 2)
        self.assertIn("the model has no label 'lov'; did you mean 'low'?", err)

    def test_predict_takes_any_rate_length_and_number_of_channels(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for rate_hz in (8000, 22050, 48000):
            for duration_s in (0.3, 0.5, 2.0):
                time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
                tone = 0.5 * np.sin(2 * np.pi * 300.0 * time_s)
                stereo = np.stack([tone, tone], axis=1)
                soundfile.write(folder / f"{rate_hz}-{duration_s}.flac", stereo, rate_hz)
        code, out, _ = call(predict, "--model", self.run_dir, str(folder), "--json")
        self.assertEqual(code, 0)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertLen(lines, 9)
        for line in lines:
            scores = [item["score"] for item in line["predictions"]]
            self.assertTrue(np.isfinite(scores).all())

    def test_one_bad_file_does_not_stop_the_others(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        good = next((self.folder / "tones" / "audio").glob("*.wav"))
        (folder / "empty.wav").write_bytes(b"")
        (folder / "text.wav").write_text("this is no sound")
        shutil.copy(good, folder / "z_good.wav")
        names = [*map(str, sorted(folder.iterdir())), str(folder / "missing.wav")]
        code, out, _ = call(predict, "--model", self.run_dir, *names, "--json")
        self.assertEqual(code, 2)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([line["file"] for line in lines], names)
        self.assertEqual(["error" in line for line in lines], [True, True, False, True])
        code, out, err = call(predict, "--model", self.run_dir, *names)
        self.assertEqual(code, 2)
        self.assertIn("z_good.wav", out)
        self.assertLen([line for line in err.splitlines() if line.startswith("error:")], 3)

    def test_predict_refuses_what_is_no_model(self) -> None:
        good = str(next((self.folder / "tones" / "audio").glob("*.wav")))
        empty = tempfile.mkdtemp(dir=self.folder)
        for arguments, message in {
            ("--model", str(self.folder / "nothing"), good): "no such model",
            ("--model", empty, good): "holds no model.keras",
            ("--model", self.run_dir, empty): "holds no audio file",
            ("--model", self.run_dir, good, "--top-k", "0"): "--top-k must be 1 or more",
            ("--model", self.run_dir, good, "--hop", "1"): "--hop goes with --window",
            ("--model", self.run_dir, good, "--force"): "--force goes with --window",
            ("--model", self.run_dir, good, "--window", "0"): "--window must be above 0 s",
            ("--model", self.run_dir, good, "--window", "nan"): "--window must be above 0 s",
            ("--model", self.run_dir, good, "--window", "5"): "longer than the 0.5 s",
            ("--model", self.run_dir, good, "--duration", "1"): "takes clips of 0.5 s only",
            (
                *("--model", self.run_dir, good),
                *("--window", "0.5", "--threshold", "2"),
            ): "--threshold must lie between 0 and 1",
        }.items():
            with self.subTest(arguments):
                code, _, err = call(predict, *arguments)
                self.assertEqual(code, 2)
                self.assertIn(message, err)

    def test_stored_model_names_its_format(self) -> None:
        model = load_classifier(self.run_dir)
        self.assertEqual(model.label_names, LABELS)
        self.assertEqual(model.audio["sample_rate_hz"], RATE_HZ)


if __name__ == "__main__":
    tf.test.main()
