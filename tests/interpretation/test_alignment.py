"""Maps made H, against loops written out and values known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.interpretation.alignment import align_in_time, compute_h, pool_frequency

RNG = np.random.default_rng(3)
TIMES_S = [0.5, 1.5, 2.5, 3.5]


def make_map() -> np.ndarray:
    """Four frames, three bands, two channels, nothing negative."""
    return RNG.uniform(0.0, 2.0, (4, 3, 2)).astype(np.float32)


@pytest.mark.parametrize(("pooling", "reduce"), [("mean", np.mean), ("max", np.max)])
def test_a_component_a_channel(pooling: str, reduce: object) -> None:
    feature_map = make_map()
    h = pool_frequency(feature_map, pooling)  # type: ignore[arg-type]
    assert h.shape == (2, 4)
    for channel in range(2):
        for frame in range(4):
            wanted = reduce(feature_map[frame, :, channel])  # type: ignore[operator]
            assert h[channel, frame] == pytest.approx(wanted, rel=1e-6)


def test_bands_are_components_of_their_own() -> None:
    feature_map = make_map()
    h = compute_h(feature_map, TIMES_S, TIMES_S, pooling="bands")
    assert h.shape == (6, 4)
    for channel in range(2):
        for band in range(3):
            np.testing.assert_array_equal(h[3 * channel + band], feature_map[:, band, channel])


def test_without_frequency_channels_stay_as_they_are() -> None:
    values = make_map()[:, 0]
    np.testing.assert_array_equal(compute_h(values, TIMES_S, TIMES_S), values.T)


def test_alignment_is_linear_between_frames_and_keeps_the_ends() -> None:
    feature_map = make_map()
    wanted_s = np.linspace(-1.0, 6.0, 141)
    h = compute_h(feature_map, TIMES_S, wanted_s.tolist())
    pooled = feature_map.mean(axis=1)
    for channel in range(2):
        wanted = np.interp(wanted_s, TIMES_S, pooled[:, channel])
        # float32 against float64. Measured: 1.5e-7.
        np.testing.assert_allclose(h[channel], wanted, atol=1e-6, rtol=0)
    assert h.dtype == np.float32 and h.min() >= 0.0


def test_an_event_stays_at_its_time() -> None:
    """Frames 0.32 s apart, a spectrogram of 10 ms: the peak is where the map has it."""
    map_times_s = [0.155 + 0.32 * index for index in range(10)]
    feature_map = np.zeros((10, 1, 1), np.float32)
    feature_map[6] = 1.0
    frame_times_s = np.arange(320) * 0.01
    (h,) = compute_h(feature_map, map_times_s, frame_times_s.tolist())
    assert frame_times_s[h.argmax()] == pytest.approx(map_times_s[6], abs=0.005)
    heard_s = frame_times_s[h > 0]
    assert map_times_s[5] <= heard_s.min() and heard_s.max() <= map_times_s[7]


def test_one_frame_is_heard_everywhere() -> None:
    assert align_in_time(np.array([[2.0]]), [1.0], [0.0, 1.0, 5.0]).tolist() == [[2.0, 2.0, 2.0]]


def test_times_that_do_not_fit_are_refused() -> None:
    for times in ([0.0, 1.0], [0.0, 0.0, 1.0]):
        with pytest.raises(ValueError, match="3 frames need as many rising times"):
            align_in_time(np.ones((1, 3)), times, [0.0])


# --- negative values


def test_negative_values_are_refused_by_name() -> None:
    feature_map = make_map()
    feature_map[2, 1, 0] = -0.5
    with pytest.raises(RequestError, match=r"block3: has negative values \(down to -0.5\).*split"):
        compute_h(feature_map, TIMES_S, TIMES_S, name="block3")


def test_rounding_below_zero_becomes_zero() -> None:
    feature_map = make_map()
    feature_map[2, :, 0] = -1e-9
    h = compute_h(feature_map, TIMES_S, TIMES_S)
    assert h[0, 2] == 0.0 and h.min() == 0.0


def test_rectify_comes_before_pooling() -> None:
    feature_map = np.array([[[3.0], [-1.0]]], np.float32)
    assert compute_h(feature_map, [0.0], [0.0], negative="rectify").tolist() == [[1.5]]


@pytest.mark.parametrize("pooling", ["mean", "bands"])
def test_split_keeps_all(pooling: str) -> None:
    feature_map = RNG.standard_normal((4, 3, 2)).astype(np.float32)
    h = compute_h(feature_map, TIMES_S, TIMES_S, pooling, negative="split")  # type: ignore[arg-type]
    half = len(h) // 2
    assert h.min() >= 0.0
    wanted = pool_frequency(feature_map, pooling)  # type: ignore[arg-type]
    # Of float32 sums in another order. Measured: 6e-8.
    np.testing.assert_allclose(h[:half] - h[half:], wanted, atol=1e-6, rtol=0)


# --- what cannot be used


def test_values_without_time_are_refused() -> None:
    with pytest.raises(RequestError, match=r"embedding: .*shape \(7,\), which has no time"):
        compute_h(np.ones(7), [0.0], [0.0], name="embedding")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    feature_map = make_map()
    feature_map[0, 0, 0] = value
    with pytest.raises(RequestError, match="block1: holds NaN or infinite values"):
        compute_h(feature_map, TIMES_S, TIMES_S, name="block1", negative="rectify")


def test_unknown_rules_name_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'mean'\?.*bands, max, mean"):
        compute_h(make_map(), TIMES_S, TIMES_S, pooling="means")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="rectify, refuse, split"):
        compute_h(make_map(), TIMES_S, TIMES_S, negative="abs")  # type: ignore[arg-type]
