"""``python -m esc_tf.data``: shard an experiment's data and train on it; fetch; refusals."""

from __future__ import annotations

import contextlib
import io
import json
from unittest import mock

import tensorflow as tf

from esc_tf import evaluate, train
from esc_tf.config import dump_experiment
from esc_tf.data import __main__ as data_command
from esc_tf.data import fetch
from tests.data.folder import FolderTestCase
from tests.data.server import serve
from tests.data.test_fetch import SMALL, pack, write_folder
from tests.tiny import tiny_experiment


def call(command, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class DataCommandTest(FolderTestCase):
    def setUp(self):
        super().setUp()
        self.config = self.root / "tiny.yaml"
        self.config.write_text(dump_experiment(tiny_experiment(str(self.root / "cache"))))

    def test_shards_are_trained_on_and_evaluated(self):
        shards, run = self.root / "shards", self.root / "run"
        code, out, err = call(
            data_command, "shard", "--config", str(self.config), "--out", str(shards),
            "--shards", "2",
        )  # fmt: skip
        self.assertEqual((code, err), (0, ""))
        self.assertIn("100 clips in 10 shards (0 were there already)", out)
        self.assertFalse((self.root / "cache").exists())
        new = f"data={{name: shards, root: {shards}, test_fold: 5, validation: 0.25}}"
        code, out, err = call(
            train, "--config", str(self.config), "--run-dir", str(run), "--set", new,
            "--set", "recipe.epochs=1",
        )  # fmt: skip
        self.assertEqual(code, 0, err)
        metrics = json.loads((run / "metrics.json").read_text())
        self.assertEqual(metrics["clips"], {"train": 60, "validation": 20, "test": 20})
        code, out, _ = call(evaluate, "--run-dir", str(run), "--json")
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(out)["confusion_matrix"], metrics["test"]["confusion_matrix"])

    def test_fetches(self):
        write_folder(self.root / "set")
        with (
            mock.patch.dict(fetch.SOURCES, esc50=SMALL),
            serve(pack(self.root / "set")) as server,
        ):
            code, out, _ = call(
                data_command, "fetch", "esc50", "--out", str(self.root / "d"), "--url", server.url
            )
        self.assertEqual(code, 0)
        folder = self.root / "d" / "ESC-50-master"
        self.assertIn(f"train with: --set data.root={folder}", out)
        self.assertTrue((folder / "meta" / "esc50.csv").is_file())

    def test_failures_and_wrong_requests_differ_in_their_exit_code(self):
        with serve(b"") as server:
            server.status = 404
            code, _, err = call(
                data_command, "fetch", "esc50", "--out", str(self.root), "--url", server.url
            )
        self.assertEqual(code, 1)
        self.assertRegex(err, "^error: http.*404")
        config = ("--config", str(self.config))
        for arguments, message in {
            (): "required: COMMAND",
            ("fetch",): "required: NAME",
            ("fetch", "esc5", "--out", str(self.root)): "did you mean 'esc50'",
            ("fetch", "esc50", "--sha256", "abc"): "a digest has 64 hexadecimal digits",
            ("shard", *config): "required: --out",
            ("shard", *config, "--out", "x", "--shards", "0"): "--shards must be 1 or more",
            ("shard", *config, "--out", str(self.root)): "is not empty and holds no shards",
            ("shard", "--config", "none.yaml", "--out", "x"): "none.yaml: cannot be read",
        }.items():
            with self.subTest(arguments):
                code, _, err = call(data_command, *arguments)
                self.assertEqual(code, 2)
                self.assertIn(message, err)


if __name__ == "__main__":
    tf.test.main()
