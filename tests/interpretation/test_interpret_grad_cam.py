"""The command grad-cam: pictures, maps and a page of a small trained model's clips."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import soundfile
import tensorflow as tf
from PIL import Image

from esc_tf.interpret import __main__ as command
from esc_tf.interpretation.grad_cam import GradCam
from esc_tf.tasks.classifier import build_classifier, load_classifier
from tests.tiny import tiny_experiment
from tests.trained_tones import LABELS, RATE_HZ, TrainedTonesCase, call

LAYERS = ["block1_conv1", "block2_conv1"]


class Sources(HTMLParser):
    """Addresses that a page loads from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "srcset") or (name == "href" and tag != "a"):
                self.found.append((tag, value or ""))


class InterpretGradCamTest(TrainedTonesCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # A clip whose label is wrong, so that there is a mistake: it sounds high and is called low.
        cls.data = cls.folder / "mislabelled"
        shutil.copytree(cls.folder / "tones", cls.data)
        table = cls.data / "meta" / "esc50.csv"
        text = table.read_text()
        row = next(line for line in text.splitlines() if line.startswith("4-") and ",high," in line)
        cls.wrong = row.split(",")[0]
        table.write_text(text.replace(row, row.replace(",2,high,", ",0,low,")))
        cls.out = cls.folder / "pictures"
        cls.code, cls.stdout, cls.stderr = cls.run_command("--layer", *LAYERS, "--folds", "4")
        cls.facts = json.loads((cls.out / "grad_cam.json").read_text())

    @classmethod
    def run_command(cls, *arguments: str, out: str = "pictures") -> tuple[int, str, str]:
        return call(
            command, "grad-cam", "--model", cls.run_dir, "--data", str(cls.data),
            "--out", str(cls.folder / out), *arguments,
        )  # fmt: skip

    def test_every_clip_of_the_fold_is_there_mistakes_first(self) -> None:
        self.assertEqual((self.code, self.stderr), (0, ""))
        clips = self.facts["clips"]
        self.assertLen(clips, 6)
        wrong = [clip["id"] for clip in clips if clip["true"] != clip["predicted"]]
        self.assertIn(self.wrong, wrong)
        self.assertEqual([clip["id"] for clip in clips[: len(wrong)]], wrong)
        self.assertEqual(self.facts["num_misclassified"], len(wrong))
        self.assertIn(f"{len(wrong)} of 6 clips are misclassified; 6 shown", self.stdout)
        model = load_classifier(self.run_dir)
        for clip in clips:
            waveform = soundfile.read(clip["path"], dtype="float32")[0]
            scores = np.asarray(model(waveform[np.newaxis])["probabilities"])[0]
            self.assertEqual(clip["predicted"], LABELS[scores.argmax()])
            self.assertAllClose(clip["probability"], scores.max(), atol=1e-3)
            self.assertAllClose(
                clip["true_probability"], scores[LABELS.index(clip["true"])], atol=1e-3
            )

    def test_maps_are_those_of_grad_cam(self) -> None:
        model = load_classifier(self.run_dir)
        grad_cam = GradCam(model, LAYERS)
        for clip in self.facts["clips"]:
            asked = list(dict.fromkeys((clip["predicted"], clip["true"])))
            waveform = soundfile.read(clip["path"], dtype="float32")[0]
            features = np.asarray(model.extract_features(waveform[np.newaxis]))
            with np.load(self.out / clip["arrays"]) as arrays:
                self.assertEqual([LABELS[label] for label in arrays["class_ids"]], asked)
                # The cache keeps 16 bits of a sample.
                self.assertAllClose(arrays["features"], features[0], atol=0.05)
                for place, label in enumerate(asked):
                    expected = grad_cam.compute(
                        arrays["features"][np.newaxis], [LABELS.index(label)]
                    )
                    for name in LAYERS:
                        found = arrays[f"layer/{name}"][place]
                        self.assertAllClose(found, expected[name][0], atol=1e-5)
                        largest = clip["largest"][name][label]
                        self.assertAllClose(largest, found.max(), rtol=1e-6)
        self.assertEqual(
            [(layer["name"], layer["read_at"]) for layer in self.facts["layers"]],
            [("block1_conv1", "block1_relu1"), ("block2_conv1", "block2_relu1")],
        )

    def test_the_page_holds_everything_itself(self) -> None:
        text = (self.out / "index.html").read_text()
        sources = Sources(text).found
        self.assertEqual([tag for tag, _ in sources].count("img"), 6)
        self.assertEqual([tag for tag, _ in sources].count("audio"), 6)
        self.assertTrue(all(address.startswith("data:") for _, address in sources))
        self.assertNotIn("<script", text)
        for clip in self.facts["clips"]:
            self.assertIn(
                f"true class {clip['true']}, predicted {clip['predicted']} at "
                f"{100 * clip['probability']:.1f} %",
                text,
            )
        pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
        first = self.facts["clips"][0]
        self.assertEqual(base64.b64decode(pictures[0]), (self.out / first["picture"]).read_bytes())
        # A mistake is shown for both classes: input, two layers for each.
        wrong, right = (
            Image.open(io.BytesIO(base64.b64decode(pictures[place]))) for place in (0, -1)
        )
        self.assertGreater(wrong.height, right.height)
        self.assertLess(text.index("Misclassified clips"), text.index("Rightly classified clips"))

    def test_sounds_are_what_the_model_heard(self) -> None:
        text = (self.out / "index.html").read_text()
        sounds = re.findall(r'src="data:audio/ogg;base64,([^"]*)"', text)
        waveform, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
        original = soundfile.read(self.facts["clips"][0]["path"])[0]
        self.assertEqual((rate_hz, len(waveform)), (RATE_HZ, len(original)))
        peaks = [np.abs(np.fft.rfft(sound)).argmax() for sound in (waveform, original)]
        self.assertLessEqual(abs(peaks[0] - peaks[1]), 1)

    def test_misclassified_clips_alone(self) -> None:
        code, _, _ = self.run_command("--misclassified", "--folds", "4", out="mistakes")
        self.assertEqual(code, 0)
        facts = json.loads((self.folder / "mistakes" / "grad_cam.json").read_text())
        self.assertEqual(len(facts["clips"]), self.facts["num_misclassified"])
        # Without --layer the last convolution.
        self.assertEqual([layer["name"] for layer in facts["layers"]], ["block2_conv1"])
        text = (self.folder / "mistakes" / "index.html").read_text()
        self.assertNotIn("Rightly classified clips", text)

    def test_no_mistake_is_said(self) -> None:
        clip = next(clip for clip in self.facts["clips"] if clip["true"] == clip["predicted"])
        code, _, _ = self.run_command("--misclassified", "--clip", clip["id"], out="none")
        self.assertEqual(code, 0)
        text = (self.folder / "none" / "index.html").read_text()
        self.assertIn("None: the only clip was classified rightly.", text)

    def test_all_is_every_convolution(self) -> None:
        clip_id = self.facts["clips"][0]["id"]
        code, _, _ = self.run_command("--layer", "all", "--clip", clip_id, out="every")
        self.assertEqual(code, 0)
        facts = json.loads((self.folder / "every" / "grad_cam.json").read_text())
        self.assertEqual([layer["name"] for layer in facts["layers"]], LAYERS)

    def test_segments_are_shown_one_by_one(self) -> None:
        segments = {"num_samples": 2000, "hop_samples": 1000, "silence_db": None}
        model = build_classifier(
            tiny_experiment(
                str(self.folder / "cache"), audio={"duration_s": 0.25, "segments": segments}
            ),
            LABELS,
        )
        model.save(self.folder / "segments.keras")
        clip_id = self.facts["clips"][-1]["id"]
        code, _, stderr = self.run_command(
            "--model", str(self.folder / "segments.keras"), "--clip", clip_id, out="segments"
        )
        self.assertEqual((code, stderr), (0, ""))
        facts = json.loads((self.folder / "segments" / "grad_cam.json").read_text())
        self.assertCountEqual(
            [clip["id"] for clip in facts["clips"]],
            [f"{clip_id} segment {number}" for number in (1, 2, 3)],
        )
        original = soundfile.read(facts["clips"][0]["path"], dtype="float32")[0]
        for clip in facts["clips"]:
            start = 1000 * (int(clip["id"][-1]) - 1)
            part = original[start : start + 2000]
            features = np.asarray(
                model.extract_features(part[np.newaxis] / np.abs(part).max(), np.array([2000]))
            )
            with np.load(self.folder / "segments" / clip["arrays"]) as arrays:
                # The cache keeps 16 bits of a sample.
                self.assertAllClose(arrays["features"], features[0], atol=0.05)

    def test_what_is_wrong_is_one_line_and_nothing_is_written(self) -> None:
        cases = (
            (
                ["--layer", "block2_conv"],
                "unknown layer 'block2_conv'; did you mean 'block2_conv1'",
            ),
            (["--layer", "embedding"], "embedding: its output has no places"),
            (["--folds", "9"], "fold 9 does not exist"),
            (["--class", "hihg"], "did you mean 'high'"),
            (["--clip", "nothing.wav"], "no clip 'nothing.wav'"),
            (["--max-clips", "0"], "--max-clips must be 1 or more"),
            (["--data", str(self.folder / "gone")], "gone"),
            (["--model", str(self.folder / "gone")], "no such model"),
            (["--model", str(self.folder / "model.tflite")], "Grad-CAM needs gradients"),
            (["--model", "http://localhost/v1/models/m"], "Grad-CAM needs gradients"),
        )
        for arguments, message in cases:
            with self.subTest(message):
                code, stdout, stderr = self.run_command(*arguments, out="never")
                self.assertEqual((code, stdout), (2, ""))
                (line,) = stderr.strip().splitlines()
                self.assertIn(message, line)
                self.assertFalse((self.folder / "never").exists())
                self.assertEqual(list(self.folder.glob(".*")), [])

    def test_pictures_are_replaced_only_if_told(self) -> None:
        clip_id = self.facts["clips"][0]["id"]
        code, _, stderr = self.run_command("--clip", clip_id)
        self.assertEqual(code, 2)
        self.assertIn("holds pictures of Grad-CAM already", stderr)
        self.assertLen(json.loads((self.out / "grad_cam.json").read_text())["clips"], 6)
        code, _, stderr = self.run_command("--clip", clip_id, out="run")
        self.assertEqual(code, 2)
        self.assertIn("does not hold pictures of Grad-CAM", stderr)
        self.assertEqual(self.run_command("--clip", clip_id, out="twice")[0], 0)
        self.assertEqual(self.run_command("--clip", clip_id, "--force", out="twice")[0], 0)


if __name__ == "__main__":
    tf.test.main()
