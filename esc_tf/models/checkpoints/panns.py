"""PANNs' Cnn10: which tensor of the original fills which weight."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from esc_tf.frontends.power_spectrogram import analysis_window
from esc_tf.models.checkpoints.assignment import find_weights
from esc_tf.models.checkpoints.rules import (
    BATCH_COUNTERS,
    CONV_OF_TIME_MEL,
    Fill,
    Ignore,
    Rules,
    fill_batch_norm,
    fill_dense,
)

# Relative L2. The original's tables and ours are computed apart, in float64, and kept in float32.
_TOLERANCE = 1e-5


def panns_rules(model: keras.Model) -> Rules:
    """The table for PANNs' Cnn10.

    The original keeps its STFT and mel matrix as tensors. They are compared with the front end of
    ``model``, and then left out: a checkpoint that was trained with other features is refused.

    Args:
        model: a classifier whose backbone is ``cnn10`` with an input norm, or that backbone alone,
            for which there is no front end to compare with.

    Source: the names of the tensors of github.com/qiuqiangkong/audioset_tagging_cnn.
    """
    front_end = getattr(model, "front_end", None)

    def check(name: str, tensor: np.ndarray) -> str | None:
        return None if front_end is None else _compare_with_front_end(name, tensor, front_end)

    reason = (
        "a constant of the front end, which computes it itself"
        if front_end is None
        else "a constant of the front end, which computes the same itself (compared)"
    )
    layers = {path.split("/")[0] for path in find_weights(model)}
    fills = [*fill_batch_norm("bn0", "input_bn"), *fill_conv_blocks(layers)]
    fills += fill_dense("fc1", "embedding_dense")
    if "logits" in layers:
        fills += fill_dense("fc_audioset", "logits")
    ignores = (
        BATCH_COUNTERS,
        *(Ignore(name, reason, check) for name in _FRONT_END_TENSORS),
    )
    return Rules(tuple(fills), ignores)


def fill_conv_blocks(layers: set[str]) -> list[Fill]:
    """Rows for ``conv_block{i}``, which PANNs and TFNet's plain network have in common."""
    fills: list[Fill] = []
    block = 1
    while f"block{block}_conv1" in layers:
        for conv in (1, 2):
            source, layer = f"conv_block{block}", f"block{block}"
            fills.append(
                Fill(f"{source}.conv{conv}.weight", f"{layer}_conv{conv}/kernel", CONV_OF_TIME_MEL)
            )
            fills += fill_batch_norm(f"{source}.bn{conv}", f"{layer}_bn{conv}")
        block += 1
    return fills


_FRONT_END_TENSORS = (
    "spectrogram_extractor.stft.conv_real.weight",
    "spectrogram_extractor.stft.conv_imag.weight",
    "logmel_extractor.melW",
)


def _compare_with_front_end(name: str, tensor: np.ndarray, front_end: Any) -> str | None:
    """Say how a constant of the original differs from what our front end computes with."""
    settings = front_end.settings
    if name == "logmel_extractor.melW":
        ours: np.ndarray = front_end.build_bank()
        wanted = f"{settings.n_mels} bands from {settings.fmin_hz:g} Hz to {settings.fmax_hz} Hz"
    else:
        ours = _stft_kernel(settings, imaginary="imag" in name)
        wanted = f"n_fft {settings.n_fft} and window {settings.window}"
    if tensor.shape != ours.shape:
        return f"{name} is {tensor.shape}, the front end ({wanted}) computes with {ours.shape}"
    difference = float(np.linalg.norm(tensor - ours) / np.linalg.norm(ours))
    # Written so that a difference which is not a number is one.
    if not difference <= _TOLERANCE:
        return (
            f"{name} differs from what the front end ({wanted}) computes with by {difference:.1e}, "
            "relative; the checkpoint was trained with other features"
        )
    return None


def _stft_kernel(settings: Any, imaginary: bool) -> np.ndarray:
    """Windowed cosines, or negative sines, ``(bins, 1, n_fft)``."""
    n_fft = settings.n_fft
    window = analysis_window(settings.window, settings.win_length or n_fft)
    before = (n_fft - len(window)) // 2
    window = np.pad(window, (before, n_fft - len(window) - before))
    # Whole turns are taken off as integers: large angles would lose digits.
    turns = np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) % n_fft
    angles = 2.0 * np.pi * turns / n_fft
    kernel = (-np.sin(angles) if imaginary else np.cos(angles)) * window
    return kernel[:, np.newaxis, :]
