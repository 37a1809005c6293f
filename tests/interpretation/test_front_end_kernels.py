"""Kernels and bands against known ones: tones, triangles, planted changes."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.frontends import HeuriNet, LogMelSpectrogram, MelInit, MSTNet
from esc_tf.interpretation.front_end_kernels import (
    KernelBank,
    build_start,
    choose_tones,
    compare_bands,
    compare_kernels,
    compute_mel_curves,
    measure_bands,
    measure_tone_answers,
    read_kernels,
)

RATE_HZ = 8000


@pytest.fixture(scope="module")
def mel_init() -> MelInit:
    return MelInit(RATE_HZ, n_fft=256, hop_length=128, n_mels=20, mel_norm=None)


def test_dominant_frequencies_are_those_of_planted_tones() -> None:
    times_s = np.arange(200) / RATE_HZ
    window = np.hanning(200)
    tones = [2500.0, 400.0, 1200.0]
    bank = KernelBank(
        np.array([window * np.sin(2 * np.pi * hz * times_s) for hz in tones]), RATE_HZ
    )
    step_hz = bank.frequencies_hz[1]
    assert bank.frequencies_hz[-1] == RATE_HZ / 2
    assert np.abs(bank.dominant_hz - tones).max() <= step_hz
    assert bank.order.tolist() == [1, 2, 0]
    # A tone of amplitude 1 through a windowed tone: half the window's sum.
    assert bank.responses.max(axis=1) == pytest.approx(np.full(3, window.sum() / 2), rel=1e-2)


def test_a_kernel_of_zeros_has_no_frequency() -> None:
    bank = KernelBank(np.stack([np.zeros(50), np.eye(50)[3]]), RATE_HZ)
    assert np.isnan(bank.dominant_hz[0])
    assert bank.order.tolist() == [1, 0]


def test_kernels_of_the_mel_spectrogram_answer_to_their_bins(mel_init: MelInit) -> None:
    bank = read_kernels(mel_init)
    assert bank.kernels.shape == (129, 256)
    assert np.iscomplexobj(bank.kernels)
    bins_hz = np.arange(129) * RATE_HZ / 256
    assert np.abs(bank.dominant_hz - bins_hz)[2:-2].max() < 2.0


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (HeuriNet(RATE_HZ, filters=[5, 3], kernel_sizes=[31, 4]), (5, 31)),
        (MSTNet(RATE_HZ, filters=[6, 4, 3], kernel_sizes=[64, 3, 3], hop_length=32), (6, 64)),
    ],
)
def test_kernels_are_what_the_waveform_is_multiplied_with(
    layer: HeuriNet | MSTNet, shape: tuple[int, int]
) -> None:
    bank = read_kernels(layer)
    assert bank.kernels.shape == shape
    assert bank.kernels[2] == pytest.approx(layer.conv_1.kernel.numpy()[:, 0, 2])


def test_a_fixed_front_end_has_no_kernels() -> None:
    with pytest.raises(ValueError, match="LogMelSpectrogram has no kernels"):
        read_kernels(LogMelSpectrogram(RATE_HZ, n_mels=20))


def test_the_start_is_the_front_end_before_training(mel_init: MelInit) -> None:
    fresh = build_start(mel_init)
    moved = build_start(mel_init)
    kernel, bank = moved.get_weights()
    moved.set_weights([2.0 * kernel, bank])
    for start in (build_start(moved), fresh):
        assert all(
            np.array_equal(mine, theirs)
            for mine, theirs in zip(start.get_weights(), mel_init.get_weights(), strict=True)
        )


def test_nothing_has_moved_at_the_start(mel_init: MelInit) -> None:
    start = build_start(mel_init)
    kernels = compare_kernels(read_kernels(mel_init), read_kernels(start))
    assert not kernels["relative_change"].any()
    bands = compare_bands(mel_init, start)
    for name in ("centre_shift_hz", "relative_change", "bank_relative_change", "outside_share"):
        assert not bands[name].any()


def test_planted_movements_are_found(mel_init: MelInit) -> None:
    moved = build_start(mel_init)
    kernel, bank = moved.get_weights()
    kernel[:, 40] *= 1.5  # the real part of bin 40: half of the pair's energy
    bank[:, 3] = np.roll(bank[:, 3], 10)
    bank[:, 5] *= -1.0
    bank[:, 7] *= 3.0
    moved.set_weights([kernel, bank])
    kernels = compare_kernels(read_kernels(moved), read_kernels(mel_init))
    change = kernels["relative_change"]
    assert np.flatnonzero(change).tolist() == [40]
    assert change[40] == pytest.approx(0.5 / np.sqrt(2.0), rel=1e-3)
    bands = compare_bands(moved, mel_init)
    assert bands["bank_relative_change"][7] == pytest.approx(2.0)
    assert bands["centre_shift_hz"][3] == pytest.approx(10 * RATE_HZ / 256, rel=0.02)
    assert np.isnan(bands["centre_hz"][5])
    assert bands["outside_share"][3] > 0.5
    assert np.delete(bands["outside_share"], [3, 5]).max() == 0.0
    assert bands["relative_change"][7] == pytest.approx(2.0, rel=1e-6)


def test_mel_curves_are_what_tones_do(mel_init: MelInit) -> None:
    curves = compute_mel_curves(mel_init)
    frequencies_hz = read_kernels(mel_init).frequencies_hz
    column = int(np.argmin(np.abs(frequencies_hz - 1000.0)))
    tones_hz = frequencies_hz[[column]]
    linear = MelInit(
        RATE_HZ, n_fft=256, hop_length=128, n_mels=20, mel_norm=None, center=False, floor=1e-12
    )
    powers = 10.0 ** (measure_tone_answers(linear, tones_hz, 4000)[:, 0] / 10.0)
    heard = curves[:, column] > 0.01 * curves[:, column].max()
    assert heard.sum() >= 2
    # A tone of amplitude a has the power a² / 2.
    assert powers[heard] == pytest.approx(curves[heard, column] * 0.5**2 / 2.0, rel=0.05)


def test_centres_are_those_of_triangles() -> None:
    frequencies_hz = np.arange(0.0, 1000.0, 1.0)
    curves = np.stack(
        [
            np.maximum(0.0, 1.0 - np.abs(frequencies_hz - 300.0) / 50.0),
            np.zeros_like(frequencies_hz),
        ]
    )
    measured = measure_bands(curves, frequencies_hz)
    assert measured["peak_hz"][0] == 300.0
    assert measured["centre_hz"][0] == pytest.approx(300.0)
    # The square of a triangle of half width h has the variance h² / 10.
    assert measured["width_hz"][0] == pytest.approx(50.0 / np.sqrt(10.0), rel=1e-2)
    assert all(np.isnan(values[1]) for values in measured.values())


def test_answers_to_tones_follow_the_mel_bands() -> None:
    layer = LogMelSpectrogram(RATE_HZ, n_fft=512, hop_length=256, n_mels=24)
    tones_hz = choose_tones(RATE_HZ, 40)
    assert tones_hz[-1] < RATE_HZ / 2
    answers = measure_tone_answers(layer, tones_hz, 4000)
    assert answers.shape == (24, 40)
    loudest = answers.argmax(axis=0)
    assert (np.diff(loudest) >= 0).all()
    assert (loudest[0], loudest[-1]) == (0, 23)
