"""TensorFlow Serving's batching parameters file.

The file is a text proto of ``tensorflow.serving.BatchingParameters``. The package
tensorflow-serving-api does not bring that message, so its fields are declared here.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from esc_tf.errors import RequestError

#: File of a version's own parameters, with ``--enable_per_model_batching_parameters``.
MODEL_PARAMETERS_FILE = "batching_params.pbtxt"

_FIELD = descriptor_pb2.FieldDescriptorProto
_WRAPPED = (
    ("max_batch_size", 1, "Int64Value"),
    ("batch_timeout_micros", 2, "Int64Value"),
    ("max_enqueued_batches", 3, "Int64Value"),
    ("num_batch_threads", 4, "Int64Value"),
    ("thread_pool_name", 5, "StringValue"),
    ("enable_large_batch_splitting", 8, "BoolValue"),
    ("max_execution_batch_size", 9, "Int64Value"),
)
_LEAST = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 1,
    "num_batch_threads": 1,
    "max_execution_batch_size": 1,
}


def _count_cores() -> int:
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """How requests are put together. The defaults are Serving's.

    Args:
        max_batch_size: rows of a request at most, and of a batch unless requests are split.
        batch_timeout_micros: how long a batch that is not full waits for more, in microseconds.
        max_enqueued_batches: batches of a signature that may wait; more are refused.
        num_batch_threads: how many batches run at a time, of all models together.
        allowed_batch_sizes: batches are filled up to the next of these sizes; empty for any size.
        pad_variable_length_inputs: put requests of other shapes together, filled up with their
            first element to the largest; without it only requests of one shape share a batch.
        enable_large_batch_splitting: spread the rows of a large request over several batches.
        max_execution_batch_size: rows of a batch at most when requests are split; 0 for
            ``max_batch_size``.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=_count_cores)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    @property
    def max_rows(self) -> int:
        """Rows of a batch at most."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size

    def choose_size(self, num_rows: int) -> int:
        """Return the size to which a batch of ``num_rows`` is filled up."""
        return min((s for s in self.allowed_batch_sizes if s >= num_rows), default=num_rows)


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Read a ``--batching_parameters_file``.

    Args:
        path: text proto of ``BatchingParameters``; what it leaves out is Serving's default.

    Raises:
        RequestError: the file cannot be read, is no such text proto, or its values are out of
            range or contradict each other.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read as batching parameters: {error}") from error
    message = _make_message_class()()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise RequestError(f"{path}: no text proto of BatchingParameters: {error}") from error
    values = {name: getattr(message, name).value for name, *_ in _WRAPPED if message.HasField(name)}
    values.pop("thread_pool_name", None)  # threads are named after what they do
    parameters = BatchingParameters(
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        **values,
    )
    problems = [f"{path}: {problem}" for problem in _find_problems(parameters, values)]
    if problems:
        raise RequestError(problems)
    return parameters


def read_model_parameters(folder: Path) -> BatchingParameters | None:
    """Read the parameters that lie in a version's own folder; None if there are none.

    Raises:
        RequestError: see ``read_batching_parameters``.
    """
    path = folder / MODEL_PARAMETERS_FILE
    return read_batching_parameters(path) if path.is_file() else None


def _find_problems(parameters: BatchingParameters, given: dict[str, Any]) -> list[str]:
    problems = [
        f"{name} is {given[name]}; it must be {least} or more"
        for name, least in _LEAST.items()
        if name in given and given[name] < least
    ]
    sizes = parameters.allowed_batch_sizes
    if any(b <= a for a, b in zip(sizes, sizes[1:], strict=False)) or (sizes and sizes[0] < 1):
        problems.append("allowed_batch_sizes entries must be positive and increase")
    if parameters.enable_large_batch_splitting and parameters.max_rows > parameters.max_batch_size:
        problems.append("max_execution_batch_size must not be greater than max_batch_size")
    elif sizes and sizes[-1] != parameters.max_rows:
        is_split = parameters.max_rows != parameters.max_batch_size
        limit = "max_execution_batch_size" if is_split else "max_batch_size"
        problems.append(
            f"Last entry in allowed_batch_sizes must match {limit}; last entry was {sizes[-1]}; "
            f"expected {parameters.max_rows}"
        )
    return problems


def _make_message_class() -> Any:
    """Declare ``BatchingParameters`` with the names, numbers and types of Serving's message."""
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[wrappers.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    for name, number, kind in _WRAPPED:
        message.field.add(
            name=name,
            number=number,
            label=_FIELD.LABEL_OPTIONAL,
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".google.protobuf.{kind}",
        )
    message.field.add(
        name="allowed_batch_sizes", number=6, label=_FIELD.LABEL_REPEATED, type=_FIELD.TYPE_INT64
    )
    message.field.add(
        name="pad_variable_length_inputs",
        number=7,
        label=_FIELD.LABEL_OPTIONAL,
        type=_FIELD.TYPE_BOOL,
    )
    pool = descriptor_pool.DescriptorPool()  # of its own: Serving's client may know the real one
    pool.Add(wrappers)
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    )
