"""Front ends: from waveform to features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from esc_tf import frames
from esc_tf.config.section import Section

PositiveInt = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=65536)]
Two = Annotated[list[Width], Field(min_length=2, max_length=2)]
Three = Annotated[list[Width], Field(min_length=3, max_length=3)]


class MelConfig(Section):
    """The settings of a log-mel spectrogram, whatever computes it.

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
    """

    name: str
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

    def count_frames(self, num_samples: int) -> int:
        """Whole frames of a waveform; 0 or less: it is too short."""
        # Pre-emphasis takes the difference of neighbours, which costs one sample.
        emphasised = num_samples - (self.pre_emphasis is not None)
        return frames.count_frames(emphasised, self.n_fft, self.hop_length, self.center)


class LogMelConfig(MelConfig):
    """Settings of ``LogMelSpectrogram``; every published log-mel is one set of these.

    Beside those of ``MelConfig``:

    - ``computation`` of the same transform: ``rfft``, ``dft_conv`` (one convolution) or
      ``factored_dft`` (small matrix products, for an ``n_fft`` that is a multiple of 4). An export
      chooses what is fastest on its target by itself.
    """

    name: Literal["log_mel"]
    computation: Literal["rfft", "dft_conv", "factored_dft"] = "rfft"

    @model_validator(mode="after")
    def _check_computation(self) -> LogMelConfig:
        if self.computation == "factored_dft" and self.n_fft % 4:
            raise ValueError(
                f"computation factored_dft needs an n_fft that is a multiple of 4, not "
                f"{self.n_fft}; use rfft or dft_conv"
            )
        return self


class MelInitConfig(MelConfig):
    """Settings of ``MelInit``: a log-mel spectrogram to begin with, which training may change.

    Beside those of ``MelConfig``, which say where it begins:

    - ``trained``: the stages that training changes, ``dft`` (the transform's kernels) and ``mel``
      (the bank); an empty list: neither.
    - ``reach``: how far a band may grow beyond its triangle on either side, in widths of the
      triangle; null: over all bins, where quiet bands soon hear the loud bins far below them.
    """

    name: Literal["mel_init"]
    trained: list[Literal["dft", "mel"]] = ["dft", "mel"]
    reach: Annotated[float, Field(ge=0.0)] | None = None

    @field_validator("trained")
    @classmethod
    def _check_trained(cls, trained: list[str]) -> list[str]:
        if len(set(trained)) != len(trained):
            raise ValueError("names a stage twice; name each once")
        return trained


class HeuriNetConfig(Section):
    """HeuriNet [Jüttner et al.]: two convolutions along time, each followed by a max-pool.

    One value for each of the two in every list; the last of ``filters`` are the bands of the
    features. Nothing is padded.
    """

    name: Literal["heurinet"]
    filters: Two = [80, 60]
    kernel_sizes: Two = [155, 15]
    strides: Two = [10, 4]
    pool_sizes: Two = [9, 9]
    pool_strides: Two = [3, 4]

    def count_frames(self, num_samples: int) -> int:
        """Frames of the features of a waveform; 0 or less: it is too short."""
        windows = zip(
            self.kernel_sizes, self.strides, self.pool_sizes, self.pool_strides, strict=True
        )
        count = num_samples
        for kernel_size, stride, pool_size, pool_stride in windows:
            count = frames.count_frames(count, kernel_size, stride, center=False)
            count = frames.count_frames(count, pool_size, pool_stride, center=False)
        return count


class MSTNetConfig(Section):
    """MSTNet [Jüttner et al.]: a convolution of long kernels, and two small ones on its frames.

    One value for each of the three in every list; the last of ``filters`` are the bands of the
    features. The first convolution moves on by ``hop_length`` samples; all are padded with zeros.
    """

    name: Literal["mstnet"]
    filters: Three = [512, 256, 60]
    kernel_sizes: Three = [1024, 3, 3]
    hop_length: PositiveInt = 512

    def count_frames(self, num_samples: int) -> int:
        """Frames of the features of a waveform."""
        return -(-num_samples // self.hop_length)


AnyFrontEndConfig = LogMelConfig | MelInitConfig | HeuriNetConfig | MSTNetConfig
FrontEndConfig = Annotated[AnyFrontEndConfig, Field(discriminator="name")]
