"""Mel filter banks against librosa, reference tables and known answers."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from esc_tf.audio import mel_filterbank
from esc_tf.audio.filterbanks import mel_band_centres_hz
from tests.shared_files import shared_path


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("n_fft", [1764, 2048])
def test_equals_librosa(scale: str, norm: str | None, n_fft: int) -> None:
    ours = mel_filterbank(44100, n_fft, 64, 50.0, 11025.0, scale, norm)
    theirs = librosa.filters.mel(
        sr=44100, n_fft=n_fft, n_mels=64, fmin=50, fmax=11025, htk=scale == "htk", norm=norm
    )
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs.T)


@pytest.mark.parametrize(
    ("fixture", "table", "fmax_hz"),
    [
        ("mel_efficientat", "mel_basis", 15000.0),
        ("mel_passt", "mel_basis", 15000.0),
        ("mel_passt", "mel_basis_default_range", 15500.0),
    ],
)
def test_kaldi_bank_equals_the_reference(fixture: str, table: str, fmax_hz: float) -> None:
    reference = np.load(shared_path(f"reference/{fixture}.npz"))[table].T
    ours = mel_filterbank(32000, 1024, 128, 0.0, fmax_hz, "kaldi", None)
    assert not ours[512].any()
    error = np.linalg.norm(ours[:512] - reference) / np.linalg.norm(reference)
    assert error < 1.5e-5  # measured 7e-6: the reference was computed in float32


def test_panns_bank_equals_the_reference() -> None:
    reference = np.load(shared_path("reference/mel_panns.npz"))["mel_basis"]
    np.testing.assert_array_equal(mel_filterbank(32000, 1024, 64, 50.0, 14000.0), reference)


def test_kaldi_triangles_share_their_edges() -> None:
    # Between the first and the last peak, neighbouring triangles add up to one everywhere.
    bank = mel_filterbank(32000, 4096, 40, 100.0, 15000.0, "kaldi", None)
    assert bank.max() <= 1.0
    peaks = bank.argmax(axis=0)
    assert (np.diff(peaks) > 0).all()
    np.testing.assert_allclose(bank[peaks[0] + 1 : peaks[-1]].sum(axis=1), 1.0, atol=1e-6)


def test_kaldi_area_norm() -> None:
    # Divided by half their width in Hz, triangles have about unit area.
    bank = mel_filterbank(32000, 65536, 20, 100.0, 15000.0, "kaldi", "slaney")
    np.testing.assert_allclose(bank.sum(axis=0) * 32000 / 65536, 1.0, atol=0.05)


def test_default_upper_edge_is_half_the_rate() -> None:
    np.testing.assert_array_equal(
        mel_filterbank(16000, 512, 40), mel_filterbank(16000, 512, 40, 0.0, 8000.0)
    )


def test_shared_table_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_filterbank(16000, 512, 40)[0, 0] = 1.0


@pytest.mark.parametrize("band", [(0.0, 9000.0), (5000.0, 4000.0), (-1.0, 4000.0)])
def test_refuses_an_impossible_band(band: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="half the sample rate"):
        mel_filterbank(16000, 512, 40, *band)


def test_refuses_an_unknown_scale() -> None:
    with pytest.raises(ValueError, match="unknown mel scale 'bark'"):
        mel_filterbank(16000, 512, 40, scale="bark")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["slaney", "htk", "kaldi"])
def test_band_centres_are_where_the_triangles_peak(scale: str) -> None:
    bank = mel_filterbank(16000, 8192, 20, 50.0, 7000.0, scale, None)
    peaks_hz = bank.argmax(axis=0) * 16000 / 8192
    centres_hz = mel_band_centres_hz(16000, 20, 50.0, 7000.0, scale)
    assert np.abs(peaks_hz - centres_hz).max() <= 16000 / 8192  # a bin
    narrow = mel_band_centres_hz(32000, 256, 0.0, None, scale)
    assert (np.diff(narrow) > 0).all() and narrow[-1] < 16000
