"""The batching parameters file, as TensorFlow Serving reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from esc_tf.errors import RequestError
from serving.batching.parameters import (
    BatchingParameters,
    read_batching_parameters,
    read_model_parameters,
)


def write(folder: Path, text: str, name: str = "batching.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_in_the_form_of_serving_s_own_documentation(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        # a comment
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: "mine" }
        allowed_batch_sizes: 32
        allowed_batch_sizes: [64, 128]
        pad_variable_length_inputs: true
        """,
    )
    assert read_batching_parameters(path) == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
        allowed_batch_sizes=(32, 64, 128),
        pad_variable_length_inputs=True,
    )


def test_what_is_left_out_is_serving_s_default(tmp_path: Path) -> None:
    parameters = read_batching_parameters(write(tmp_path, ""))
    assert parameters == BatchingParameters()
    assert (parameters.max_batch_size, parameters.batch_timeout_micros) == (1000, 0)
    assert parameters.max_enqueued_batches == 10
    assert parameters.num_batch_threads >= 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size: 4", "no text proto of BatchingParameters"),
        ("max_batch_sise { value: 4 }", "max_batch_sise"),
        ("max_batch_size { value: 0 }", "max_batch_size is 0; it must be 1 or more"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads is 0"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "must match max_batch_size; last entry was 4; expected 8",
        ),
        ("allowed_batch_sizes: 4", "last entry was 4; expected 1000"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [4, 4, 8]",
            "must be positive and increase",
        ),
        (
            "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 4 } allowed_batch_sizes: [4, 8]",
            "must match max_execution_batch_size; last entry was 8; expected 4",
        ),
        (
            "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 16 }",
            "max_execution_batch_size must not be greater than max_batch_size",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RequestError, match=words) as caught:
        read_batching_parameters(path)
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none.txt: cannot be read"):
        read_batching_parameters(tmp_path / "none.txt")


def test_batches_are_filled_up_to_the_next_allowed_size() -> None:
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(1, 4, 8))
    assert [parameters.choose_size(n) for n in (1, 2, 4, 5, 8)] == [1, 4, 4, 8, 8]
    assert BatchingParameters().choose_size(5) == 5


def test_a_version_may_bring_its_own(tmp_path: Path) -> None:
    assert read_model_parameters(tmp_path) is None
    write(tmp_path, "max_batch_size { value: 3 }", "batching_params.pbtxt")
    assert read_model_parameters(tmp_path) == BatchingParameters(max_batch_size=3)
