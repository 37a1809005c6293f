"""The training benchmark: what it says without PyTorch, and how it shows what it measured."""

from __future__ import annotations

import importlib.util
from unittest import mock

import pytest

from benchmarks import training


def test_without_pytorch_it_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.object(importlib.util, "find_spec", return_value=None):
        assert training.main([]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "PyTorch is not installed, so there is no peer to measure: pip install torch"
    ]


def test_ratios_above_one_are_in_favour_of_this_package() -> None:
    mib = 2**20
    ours = {"median_s": 2.0, "peak_bytes": 900 * mib, "imported_bytes": 600 * mib}
    theirs = {"median_s": 3.0, "peak_bytes": 450 * mib, "imported_bytes": 300 * mib}
    race = {"task": "train", "precision": "float32", "tensorflow": ours, "torch": theirs}
    network = {"batch_size": 4, "relative_error_of_logits": 1e-6, "races": [race]}
    lines = training.format_result({"machine": {"cores": 2}, "network": network}).splitlines()
    row = next(line for line in lines if line.startswith("train, float32"))
    assert row.split()[2:] == [
        "0.5000",
        "900",
        "600",
        "0.7500",
        "450",
        "300",
        "1.50",
        "0.50",
        "0.50",
    ]
