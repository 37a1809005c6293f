"""The benchmark of MobileNetV3: its peer is the published network; how results are shown."""

from __future__ import annotations

import importlib.util
from unittest import mock

import numpy as np
import pytest

from benchmarks import mobilenet_v3
from esc_tf.config import LogMelConfig
from esc_tf.config.published import VARIANTS
from tests.models.test_parity import load_fixture
from tests.shared_files import shared_path

NEEDS_TORCH = "the peer is written in PyTorch, which is not installed"


def relative_error(ours: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", ["mn04", "mn10"])
def test_the_peer_is_the_published_network(name: str) -> None:
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    from benchmarks.contestants import torch_mobilenet_v3 as peer

    _, arrays, weights = load_fixture(name)
    network = peer.TorchMobileNetV3(VARIANTS["mobilenet_v3"][name].model["width"], 527).eval()
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    with torch.inference_mode():
        logits = network(torch.from_numpy(arrays["input"])).numpy()
    # measured: mn04 3.8e-7, mn10 6.0e-7
    assert relative_error(logits, arrays["logits"]) < 1e-5


def test_the_peer_hears_as_published() -> None:
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    from benchmarks.contestants import torch_mobilenet_v3 as peer

    variant = VARIANTS["mobilenet_v3"]["mn04"]
    front_end = peer.TorchLogMel(LogMelConfig(**variant.front_end), variant.audio["sample_rate_hz"])
    with np.load(shared_path("reference/mel_efficientat.npz")) as arrays:
        features = front_end(torch.from_numpy(arrays["input"])).numpy()[:, 0]
        # measured: 1.3e-6
        assert relative_error(features, arrays["mel"]) < 1e-5


def test_without_pytorch_it_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.object(importlib.util, "find_spec", return_value=None):
        assert mobilenet_v3.main([]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "PyTorch is not installed, so there is no peer to measure: pip install torch"
    ]


def test_ratios_above_one_are_in_favour_of_this_package() -> None:
    mib = 2**20
    ours = {"median_s": 0.004, "median_cpu_s": 0.006, "peak_bytes": 800 * mib}
    theirs = {"median_s": 0.006, "median_cpu_s": 0.012, "peak_bytes": 400 * mib}
    row = {
        "task": "infer",
        "variant": "mn04",
        "batch_size": 1,
        "clip_s": 5,
        "relative_error_of_logits": 2e-7,
        "tensorflow": ours,
        "torch": theirs,
    }
    lines = mobilenet_v3.format_result({"machine": {"cores": 2}, "rows": [row]}).splitlines()
    assert "logits of the two sides differ by at most 2.0e-07 (relative)" in lines
    (shown,) = (line for line in lines if line.startswith("mn04 infer, 1 x 5 s"))
    assert shown.removeprefix("mn04 infer, 1 x 5 s").split() == [
        "4.0",
        "6.0",
        "800",
        "6.0",
        "12.0",
        "400",
        "1.50",
        "2.00",
        "0.50",
    ]
