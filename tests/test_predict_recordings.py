"""Recordings of any length named window by window, by the command."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import tensorflow as tf

from esc_tf import predict
from esc_tf.tasks.classifier import Classifier
from tests.trained_tones import LABELS, RATE_HZ, TONES_HZ, TrainedTonesCase, call


class RecordingsTest(TrainedTonesCase):
    def test_predict_hears_a_recording_window_by_window(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        time_s = np.arange(2 * RATE_HZ) / RATE_HZ
        tones = np.concatenate([0.5 * np.sin(2 * np.pi * hz * time_s) for hz in TONES_HZ])
        tones += 0.01 * np.random.default_rng(0).normal(size=tones.size)  # as in training
        recording = folder / "tones.wav"
        soundfile.write(recording, tones[: int(5.7 * RATE_HZ)], RATE_HZ)
        arguments = ("--model", self.run_dir, str(recording), "--window", "0.5", "--out")
        code, out, _ = call(predict, *arguments, str(folder / "new" / "a"), "--top-k", "2")
        self.assertEqual(code, 0)
        first, *rows, last = out.splitlines()
        self.assertEqual(
            first,
            f"{recording}: 0:05.7 in 12 windows of 0.5 s every 0.5 s; the last holds 0.2 s and is "
            "padded",
        )
        self.assertLen(rows, 2)
        self.assertEqual(last.count(str(folder / "new" / "a" / "tones.")), 3)
        content = json.loads((folder / "new" / "a" / "tones.json").read_text())
        leaders = [LABELS[int(np.argmax(window["probabilities"]))] for window in content["windows"]]
        self.assertEqual(leaders[:11], ["low"] * 4 + ["middle"] * 4 + ["high"] * 3)
        # A window says what a clip of the same samples says.
        clip = folder / "clip.wav"
        soundfile.write(clip, tones[2 * RATE_HZ : int(2.5 * RATE_HZ)], RATE_HZ)
        _, out, _ = call(predict, "--model", self.run_dir, str(clip), "--json")
        scores = {item["label"]: item["score"] for item in json.loads(out)["predictions"]}
        self.assertAllClose(
            content["windows"][4]["probabilities"], [scores[name] for name in LABELS], atol=1e-5
        )

        code, _, err = call(predict, *arguments, str(folder / "new" / "a"))
        self.assertEqual(code, 2)
        self.assertIn("tones.csv, ", err)
        self.assertIn("add --force", err)
        code, out, _ = call(
            predict, *arguments, str(folder / "new" / "a"), "--force", "--json", "--hop", "1"
        )
        self.assertEqual(code, 0)
        summary = json.loads(out)
        self.assertEqual((summary["num_windows"], summary["hop_s"]), (6, 1.0))
        self.assertEqual(set(summary["written"]), {"csv", "json", "png"})

    def test_a_recording_with_a_bad_end_is_kept_up_to_there(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        whole = folder / "whole.wav"
        soundfile.write(whole, np.zeros(4 * RATE_HZ), RATE_HZ)
        (folder / "cut.wav").write_bytes(whole.read_bytes()[: -2 * 2 * RATE_HZ])
        (folder / "text.wav").write_text("this is no sound")
        names = [str(folder / name) for name in ("text.wav", "cut.wav", "whole.wav")]
        code, out, err = call(
            predict, "--model", self.run_dir, *names, "--window", "0.5", "--out", str(folder)
        )
        self.assertEqual(code, 2)
        self.assertIn("text.wav: not audio", err)
        self.assertRegex(err, r"cut.wav: truncated.*the timeline ends where it does, at 0:02")
        self.assertLen([line for line in err.splitlines() if line.startswith("error:")], 2)
        self.assertIn("whole.wav: 0:04 in 8 windows", out)
        self.assertLen(json.loads((folder / "cut.json").read_text())["windows"], 4)
        self.assertFalse((folder / "text.csv").exists())

    def test_an_interruption_leaves_no_file(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        recording = folder / "r.wav"
        soundfile.write(recording, np.zeros(40 * RATE_HZ), RATE_HZ)
        heard = Classifier.predict_on_batch

        def interrupt(self: Classifier, inputs: Any) -> Any:
            if hasattr(self, "has_heard"):
                raise KeyboardInterrupt
            self.has_heard = True
            return heard(self, inputs)

        with mock.patch.object(Classifier, "predict_on_batch", interrupt):
            code, _, err = call(
                predict,
                *("--model", self.run_dir, str(recording)),
                *("--window", "0.5", "--out", str(folder)),
            )
        self.assertEqual((code, err), (130, "interrupted\n"))
        self.assertEqual([item.name for item in folder.iterdir()], ["r.wav"])


if __name__ == "__main__":
    tf.test.main()
