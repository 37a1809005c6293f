"""Channels of MobileNetV3, and what the models' files have in common."""

from __future__ import annotations

import pytest

from esc_tf.config import HeadConfig, MobileNetV3Config
from esc_tf.config.model import MOBILENET_V3_WIDTHS, round_channels


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(0.1, 8), (11.9, 16), (12, 16), (16, 16), (19.9, 24), (20, 24), (27.9, 32), (88.9, 88)],
)
def test_channels_are_rounded_to_multiples_of_eight(channels: float, expected: int) -> None:
    assert round_channels(channels) == expected
    assert round_channels(channels) >= 0.9 * channels


def test_units_of_the_published_heads() -> None:
    units = [round_channels(1280 * width) for width in MOBILENET_V3_WIDTHS.values()]
    assert units == [128, 256, 512, 640, 1280, 2560, 3840, 5120]


def test_the_published_network_is_the_default() -> None:
    config = MobileNetV3Config(name="mobilenet_v3")
    assert (config.width, config.strides, config.reduced_tail) == (1.0, (2, 2, 2, 2), False)
    assert config.head == HeadConfig(hidden_units=[1280], activation="hard_swish", dropout=0.2)
