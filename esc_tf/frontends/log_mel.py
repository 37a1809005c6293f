"""Log-mel spectrograms in the graph: one layer for training, for serving and for TFLite."""

from __future__ import annotations

from typing import Any

import keras

from esc_tf.config import LogMelConfig
from esc_tf.frontends.mel_front_end import MelFrontEnd
from esc_tf.frontends.mel_projection import MelProjection, count_used_bins
from esc_tf.frontends.power_spectrogram import COMPUTATIONS


@keras.saving.register_keras_serializable(package="esc_tf")
class LogMelSpectrogram(MelFrontEnd[LogMelConfig]):
    """Waveform → log-mel spectrogram, in float32 whatever the dtype policy.

    features = normalise(compress(|STFT(x)|² · mel)); see ``MelFrontEnd`` for clips of different
    lengths. The layer has no weights.

    On TFLite ``rfft`` needs an ``n_fft`` that is a power of two, ``factored_dft`` a multiple of 4;
    ``dft_conv`` takes any. ``esc_tf.frontends.computation`` knows which is the fastest there.

    Args:
        sample_rate_hz: rate of the waveforms.
        name: name of the layer.
        trainable: taken for Keras.
        **settings: the fields of ``LogMelConfig`` (which documents them) but ``name``.

    Call arguments:
        waveform: ``(batch, samples)``, full scale ±1.
        num_samples: optional int ``(batch,)``, valid samples at the start of each row.

    Returns:
        float32 features ``(batch, time, frequency, 1)``.

    Raises:
        ConfigError: a setting is unknown or wrong; all such are listed.
        ValueError: the waveform is shorter than one frame.

    Source: librosa 0.11 ``melspectrogram`` and ``power_to_db``, PaSST/EfficientAT, PANNs and TFNet,
    each with its settings; measured agreement in the tests.

    >>> layer = LogMelSpectrogram(44100, n_fft=2048, hop_length=512, n_mels=128, fmin_hz=20.0)
    >>> layer(keras.ops.zeros((1, 220500))).shape
    TensorShape([1, 431, 128, 1])
    """

    settings_class = LogMelConfig

    def __init__(self, sample_rate_hz: int, **settings: Any) -> None:
        super().__init__(sample_rate_hz, **settings)
        bank = self.build_bank()
        self._power_spectrum = COMPUTATIONS[self.settings.computation](
            self.settings.n_fft,
            self.settings.hop_length,
            self.build_window(),
            count_used_bins(bank),  # those above the highest band are not computed
        )
        self._project_to_mel = MelProjection(bank[self._power_spectrum.bins])

    def compute_mel(self, waveform: Any) -> Any:
        """Padded waveform ``(batch, samples)`` → mel powers ``(batch, time, n_mels)``."""
        return self._project_to_mel(self._power_spectrum(waveform))
