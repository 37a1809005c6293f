"""``python -m esc_tf.describe``: its JSON, its table, its refusals."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from esc_tf.describe import main

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
name: small
audio: {sample_rate_hz: 8000, duration_s: 1.0}
data: {name: synthetic}
front_end: {name: log_mel, n_fft: 256, hop_length: 128, n_mels: 32}
model:
  name: se_cnn
  block_filters: [4, 8]
  squeeze_excitation_blocks: [2]
  head: {hidden_units: [16], dropout: 0.5}
"""


def run_describe(*argv: str) -> tuple[int, str, str]:
    with (
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        code = main(list(argv))
    return code, stdout.getvalue(), stderr.getvalue()


class DescribeTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.config = str(Path(folder.name) / "small.yaml")
        Path(self.config).write_text(SMALL)

    def test_json_is_one_object(self) -> None:
        code, stdout, _ = run_describe("--config", self.config, "--json")
        self.assertEqual((code, stdout.count("\n")), (0, 1))
        result = json.loads(stdout)
        self.assertEqual(
            [part["name"] for part in result["parts"]], ["block1", "block2", "se2", "head"]
        )
        for key in ("trainable_parameters", "multiply_adds"):
            self.assertEqual(result[key], sum(part[key] for part in result["parts"]))
        # 9 (1 + 4) 4 + 16 and 9 (4 + 8) 8 + 32 in the blocks, 3 8^2 / 8, (8 + 1) 16 + (16 + 1) 10.
        self.assertEqual(result["trainable_parameters"], 196 + 896 + 24 + 144 + 170)

    def test_table_has_a_row_for_each_part_and_the_totals(self) -> None:
        code, stdout, _ = run_describe("--config", self.config)
        self.assertEqual(code, 0)
        rows = {line.split()[0]: line for line in stdout.splitlines() if line}
        self.assertIn("31 x 16 x 4", rows["block1"])
        self.assertIn("16 x 16", rows["se2"])
        self.assertIn("1,430", rows["total"])
        self.assertIn("8,000 samples", rows["input"])
        self.assertIn("63 x 32 x 1", rows["features"])
        self.assertIn("16 frames x 16 bins, in steps of 4 x 4", rows["receptive"])

    def test_set_changes_the_network(self) -> None:
        code, stdout, _ = run_describe(
            "--config", self.config, "--json", "--set", "data.classes=[chirp, click, hum]"
        )
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(stdout)["output_shape"], [3])

    def test_all_problems_at_once(self) -> None:
        code, stdout, stderr = run_describe(
            *("--config", self.config),
            *("--set", "model.block_filter=[8]", "--set", "front_end.n_mel=3"),
        )
        self.assertEqual((code, stdout), (2, ""))
        lines = stderr.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(all(line.startswith("error: ") for line in lines))
        self.assertIn("did you mean 'n_mels'", stderr)
        self.assertIn("did you mean 'block_filters'", stderr)

    def test_a_network_too_deep_for_its_features_is_a_wrong_request(self) -> None:
        code, _, stderr = run_describe(
            *("--config", self.config),
            *("--set", "model.block_filters=[2, 2, 2, 2, 2, 2]"),
        )
        self.assertEqual(code, 2)
        self.assertIn("error: model.block_filters: 6 blocks need 64 frames", stderr)

    def test_a_missing_file_is_a_wrong_request(self) -> None:
        code, _, stderr = run_describe("--config", "absent.yaml")
        self.assertEqual(code, 2)
        self.assertIn("absent.yaml", stderr)

    def test_published_experiment_in_a_process_of_its_own(self) -> None:
        config = ROOT / "configs" / "experiment" / "se_cnn_esc50.yaml"
        done = subprocess.run(
            [sys.executable, "-m", "esc_tf.describe", "--config", str(config), "--json"],
            cwd=ROOT,
            env={**os.environ},
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual(result["trainable_parameters"], 21_569_906)
        self.assertTrue(14.0e9 < result["multiply_adds"] < 14.2e9)
        self.assertEqual(len(result["parts"]), 10)

    def test_a_wrong_configuration_is_refused_without_waiting_for_tensorflow(self) -> None:
        program = (
            "import sys\n"
            "from esc_tf.describe import main\n"
            "assert main(['--config', 'absent.yaml']) == 2\n"
            "assert main(['--help']) == 0\n"
            "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
