"""What a model hears: rate and length of a waveform, and clips cut into segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from esc_tf import frames
from esc_tf.config.section import Section


class SegmentsConfig(Section):
    """Clips cut into segments of ``num_samples`` every ``hop_samples``, as DeepFourier has them.

    A segment that the clip's end does not fill is left out; a clip shorter than one segment is one
    segment, padded (the published code drops such clips). A segment whose RMS level lies
    ``silence_db`` or further below the clip's own peak is silent: it is not trained on, and not
    heard in validation, test and use, where a clip with nothing but silent segments keeps its
    loudest one. Null: nothing is silent. (The published code leaves out segments whose log-mel
    spectrogram is -70 dB or less on average: of 2,886 in ESC-10's first four folds these are 321;
    -70 dB here leaves out 278, of which 273 are the same.)

    ``normalize_peak``: each ``segment`` divided by its own largest magnitude, or by that of the
    whole ``clip`` as in the published code; null: left as it is.
    """

    num_samples: Annotated[int, Field(ge=1)]
    hop_samples: Annotated[int, Field(ge=1)]
    normalize_peak: Literal["segment", "clip"] | None = "segment"
    silence_db: Annotated[float, Field(lt=0.0)] | None = -70.0


class AudioConfig(Section):
    """The one waveform format of an experiment.

    ``duration_s`` is the length that every clip is padded or cropped to. ``pad`` says where a
    shorter clip lies (``end``: zeros behind it, which the front end tells from the clip and fills
    up by its own rule; ``silence``: zeros behind it, heard as part of the clip; ``center``: such
    zeros on both sides; ``repeat``: the clip again and again); ``crop`` which part of a longer one
    is kept (``random`` draws a part in training and takes the centre otherwise).

    With ``segments`` the model hears segments of clips: what is said of a clip here then holds of
    a segment, and ``duration_s`` follows from ``segments.num_samples``.
    """

    sample_rate_hz: Annotated[int, Field(ge=2000, le=384000)] = 44100
    duration_s: Annotated[float, Field(gt=0.0, le=600.0)] = 5.0
    pad: Literal["end", "silence", "center", "repeat"] = "end"
    crop: Literal["start", "center", "random"] = "start"
    segments: SegmentsConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_duration(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or "duration_s" in raw:
            return raw
        segments = raw.get("segments")
        num_samples = segments.get("num_samples") if isinstance(segments, Mapping) else None
        rate_hz = raw.get("sample_rate_hz", cls.model_fields["sample_rate_hz"].default)
        if type(num_samples) is not int or type(rate_hz) is not int or rate_hz < 1:
            return raw  # said of those fields themselves
        return {**raw, "duration_s": num_samples / rate_hz}

    @model_validator(mode="after")
    def _check_duration(self) -> AudioConfig:
        if self.segments is None:
            return self
        wanted = self.segments.num_samples
        if frames.count_samples(self.duration_s, self.sample_rate_hz) != wanted:
            raise ValueError(
                f"duration_s is that of a segment, and {self.duration_s:g} s are not the "
                f"{wanted} samples of segments.num_samples; leave duration_s out"
            )
        return self
