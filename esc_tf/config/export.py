"""Which clips of a run an export hears: to calibrate integer formats, and to verify all."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from esc_tf.config.section import Section


class ExportConfig(Section):
    """The clips of ``python -m export``, whose options of the same names go before these.

    Both sets are spread evenly over the classes: one clip of each, then a second one, and so on.

    - ``calibration_clips``: at most so many clips of the training part, from which the ranges of
      integer formats are taken. They are held in memory together.
    - ``evaluation_clips``: at most so many clips of the test part, on which every format must agree
      with the model.
    - ``clip_seed``: which clips of each class these are.
    """

    calibration_clips: Annotated[int, Field(ge=1)] = 128
    evaluation_clips: Annotated[int, Field(ge=1)] = 400
    clip_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
