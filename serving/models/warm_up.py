"""Requests that lie beside a model and are sent to it before anyone else may send any.

The first call of a signature plans and allocates. TensorFlow Serving replays the records of
``assets.extra/tf_serving_warmup_requests`` while it loads a version; so does this. A version whose
requests fail is not served, as in Serving.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serving.errors import ServingError
from serving.models.servable import Servable

WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
MAX_NUM_RECORDS = 1000


def replay_warm_up(servable: Servable, folder: Path, num_iterations: int) -> int:
    """Send a model its warm-up requests, if it has any.

    Args:
        servable: the model.
        folder: of its version.
        num_iterations: how often each request is sent.

    Returns:
        How many records there are.

    Raises:
        ServingError: a request fails, a record is damaged or of a kind that Serving does not
            replay, or there are more than 1,000.
    """
    path = folder / WARM_UP_FILE
    num_records = 0
    if not path.is_file():
        return num_records
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        num_records += 1
        if num_records > MAX_NUM_RECORDS:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Number of warmup records exceeds the maximum ({MAX_NUM_RECORDS}) at {path}",
            )
        for signature_name, inputs in _read_record(record, path):
            for _ in range(num_iterations):
                servable.run(signature_name, inputs)
    return num_records


def _read_record(record: bytes, path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield signature and inputs of each call that a ``PredictionLog`` holds."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError as error:
        raise ServingError(
            "INVALID_ARGUMENT", f"Failed to parse warmup record: {record!r:.100} from {path}"
        ) from error
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        inputs = {alias: tf.make_ndarray(value) for alias, value in request.inputs.items()}
        yield request.model_spec.signature_name, inputs
    elif kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        yield request.model_spec.signature_name, {"inputs": _serialize_examples(request.input)}
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        for task in request.tasks:
            yield task.model_spec.signature_name, {"inputs": _serialize_examples(request.input)}
    elif kind is not None:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {number}")


def _serialize_examples(given: Any) -> np.ndarray:
    """Return the examples of an ``Input`` as bytes, with their context if there is one."""
    if given.WhichOneof("kind") != "example_list_with_context":
        examples = [example.SerializeToString() for example in given.example_list.examples]
    else:
        examples = []
        for example in given.example_list_with_context.examples:
            merged = tf.train.Example()
            merged.CopyFrom(given.example_list_with_context.context)
            merged.MergeFrom(example)
            examples.append(merged.SerializeToString())
    return np.array(examples, dtype=object)
