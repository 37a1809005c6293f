"""Front ends: from waveform to features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from esc_tf.config.section import Section

PositiveInt = Annotated[int, Field(ge=1)]


class LogMelConfig(Section):
    """Settings of ``LogMelSpectrogram``; every published log-mel is one set of these.

    The order of the computation is the order of the fields. The rate is ``audio.sample_rate_hz``.

    - ``pre_emphasis``: y[t] = x[t + 1] - pre_emphasis * x[t] (one sample shorter); null: none.
    - ``window``: ``hann`` is periodic, ``hann_symmetric`` is not; shorter windows are centred in
      ``n_fft``.
    - ``mel_scale``: ``kaldi`` spaces the triangles in 1127 ln(1 + f/700) and draws them there.
    - ``compression``: ``db`` is 10 log10(max(x, floor)), then ``top_db`` below the clip's own
      maximum (null: no limit); ``log`` is ln(x + floor).
    - ``normalization``: ``standardize`` by the clip's own mean and (std + 1e-6); ``affine``:
      (x + affine_offset) / affine_scale; ``min_max``: the clip to [0, 1].
    - ``num_frames``: cut to this many frames, or fill up with ``frame_padding``: the clip's own
      minimum or zero; null: as many as there are.
    - ``computation`` of the same transform: ``rfft``, ``dft_conv`` (one convolution) or
      ``factored_dft`` (small matrix products, for an ``n_fft`` that is a multiple of 4). An export
      chooses what is fastest on its target by itself.
    """

    name: Literal["log_mel"]
    pre_emphasis: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    n_fft: Annotated[int, Field(ge=16, le=65536)] = 2048
    win_length: PositiveInt | None = None
    hop_length: PositiveInt = 512
    window: Literal["hann", "hann_symmetric"] = "hann"
    center: bool = True
    pad_mode: Literal["zero", "reflect"] = "zero"
    n_mels: Annotated[int, Field(ge=1, le=1024)] = 128
    fmin_hz: Annotated[float, Field(ge=0.0)] = 0.0
    fmax_hz: Annotated[float, Field(gt=0.0)] | None = None
    mel_scale: Literal["slaney", "htk", "kaldi"] = "slaney"
    mel_norm: Literal["slaney"] | None = "slaney"
    compression: Literal["db", "log"] = "db"
    floor: Annotated[float, Field(gt=0.0)] = 1e-10
    top_db: Annotated[float, Field(gt=0.0)] | None = None
    normalization: Literal["none", "standardize", "affine", "min_max"] = "none"
    affine_offset: float = 4.5
    affine_scale: Annotated[float, Field(gt=0.0)] = 5.0
    num_frames: PositiveInt | None = None
    frame_padding: Literal["minimum", "zero"] = "minimum"
    computation: Literal["rfft", "dft_conv", "factored_dft"] = "rfft"

    @model_validator(mode="after")
    def _check_computation(self) -> LogMelConfig:
        if self.computation == "factored_dft" and self.n_fft % 4:
            raise ValueError(
                f"computation factored_dft needs an n_fft that is a multiple of 4, not "
                f"{self.n_fft}; use rfft or dft_conv"
            )
        return self


FrontEndConfig = LogMelConfig
