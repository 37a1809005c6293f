"""Rows of several requests in one array, and back."""

from __future__ import annotations

import numpy as np
import pytest

from serving.batching.arrays import count_rows, make_key, merge, split
from serving.errors import ServingError


def test_rows_are_counted_where_all_inputs_agree() -> None:
    assert count_rows({"a": np.zeros((3, 2)), "b": np.zeros(3)}) == 3
    assert count_rows({"a": np.zeros((3, 2)), "b": np.zeros((2, 2))}) is None
    assert count_rows({"a": np.zeros(3), "b": np.float32(1.0)}) is None
    assert count_rows({"a": np.zeros((0, 2))}) is None
    assert count_rows({}) is None


def test_only_equal_shapes_and_types_share_a_key() -> None:
    one = {"a": np.zeros((1, 4), np.float32)}
    assert make_key(one, False) == make_key({"a": np.ones((7, 4), np.float32)}, False)
    assert make_key(one, False) != make_key({"a": np.zeros((1, 5), np.float32)}, False)
    assert make_key(one, False) != make_key({"a": np.zeros((1, 4), np.float64)}, False)
    assert make_key(one, False) != make_key({"b": np.zeros((1, 4), np.float32)}, False)
    assert make_key(one, True) == make_key({"a": np.zeros((1, 5), np.float32)}, True)
    assert make_key(one, True) != make_key({"a": np.zeros((1, 4, 1), np.float32)}, True)


def test_what_is_merged_comes_back_by_rows() -> None:
    parts = [{"a": np.arange(n * 2.0).reshape(n, 2) + 10 * n} for n in (1, 3, 2)]
    merged = merge(parts, 6)
    np.testing.assert_array_equal(merged["a"], np.vstack([part["a"] for part in parts]))
    for part, back in zip(parts, split(merged, [1, 3, 2], 6) or [], strict=True):
        np.testing.assert_array_equal(back["a"], part["a"])


def test_a_batch_is_filled_up_with_the_first_row_of_the_last_request() -> None:
    parts = [{"a": np.array([1, 2])}, {"a": np.array([3, 4])}]
    merged = merge(parts, 7)
    assert merged["a"].tolist() == [1, 2, 3, 4, 3, 3, 3]
    back = split(merged, [2, 2], 7)
    assert back is not None
    assert [part["a"].tolist() for part in back] == [[1, 2], [3, 4]]


def test_strings_are_merged_as_they_are() -> None:
    parts = [{"a": np.array([text], dtype=object)} for text in (b"", b"long \0 text", b"x")]
    merged = merge(parts, 3)["a"]
    assert merged.dtype == object
    assert merged.tolist() == [b"", b"long \0 text", b"x"]


def test_other_sizes_are_padded_behind_with_their_own_first_element() -> None:
    parts = [{"a": np.array([[7, 8]])}, {"a": np.array([[1, 2, 3], [4, 5, 6]])}]
    assert merge(parts, 3)["a"].tolist() == [[7, 8, 7], [1, 2, 3], [4, 5, 6]]
    square = [{"a": np.array([[[5, 6]]])}, {"a": np.array([[[1], [2]]])}]
    assert merge(square, 2)["a"].tolist() == [[[5, 6], [5, 5]], [[1, 1], [2, 1]]]


def test_an_input_without_elements_has_nothing_to_be_padded_with() -> None:
    with pytest.raises(ServingError, match="Got empty tensor in batch of non-empty tensors"):
        merge([{"a": np.zeros((1, 0))}, {"a": np.zeros((1, 2))}], 2)


def test_outputs_that_are_not_per_row_cannot_be_split() -> None:
    assert split({"a": np.zeros(4), "b": np.float32(1.0)}, [2, 2], 4) is None
    assert split({"a": np.zeros(3)}, [2, 2], 4) is None
