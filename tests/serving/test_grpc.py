"""The gRPC services, over a real channel, with models that need no SavedModel."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.access_log import AccessLog
from serving.errors import ServingError
from serving.grpc_server import build_grpc_server, listen, parse_channel_arguments
from serving.tensor_protos import read_tensor, write_tensor
from tests.serving.fake_models import Gate, build_services
from tests.serving.server_process import find_free_port


class Served:
    """The fake model behind a gRPC server on a free port."""

    def __init__(self, folder: Path, as_content: bool = False, **settings: Any) -> None:
        self.gate = Gate()
        self.log = io.StringIO()
        self.services = build_services(folder, self.gate, **settings)
        self.server = build_grpc_server(
            self.services, AccessLog("json", self.log), 4, as_content=as_content
        )
        self.address = f"127.0.0.1:{find_free_port()}"
        listen(self.server, self.address, None)
        self.server.start()
        self.channel = grpc.insecure_channel(self.address)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        self.channel.close()
        self.server.stop(0).wait()
        self.services.close()
        self.services.manager.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("models"), max_request_bytes=1_000_000) as one:
        yield one


def make_request(values: Any = (1.0, 2.0), name: str = "half") -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values, tf.float32))
    return request


def find_error(call: Any, request: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, **options)
    return raised.value.code().name, raised.value.details()


# --- calls


def test_predict(served: Served) -> None:
    reply = served.predictions.Predict(make_request())
    assert list(reply.outputs["y"].float_val) == [2.5, 3.0]
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("half", 1)
    assert reply.model_spec.signature_name == "serving_default"


def test_reply_as_tensor_content(tmp_path: Path) -> None:
    with Served(tmp_path, as_content=True) as served:
        output = served.predictions.Predict(make_request()).outputs["y"]
        assert len(output.float_val) == 0
        np.testing.assert_array_equal(tf.make_ndarray(output), np.float32([2.5, 3.0]))


def test_status_and_metadata(served: Served) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    (status,) = served.models.GetModelStatus(request).model_version_status
    assert (status.version, status.State.Name(status.state)) == (1, "AVAILABLE")
    assert (status.status.error_code, status.status.error_message) == (0, "")
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "half"
    asked.metadata_field.append("signature_def")
    reply = served.predictions.GetModelMetadata(asked)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    assert reply.model_spec.version.value == 1


def test_errors_have_servings_codes_and_words(served: Served) -> None:
    predict = served.predictions.Predict
    unknown = make_request(name="none")
    assert find_error(predict, unknown) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(none)",
    )
    version = make_request()
    version.model_spec.version.value = 7
    assert find_error(predict, version)[1].endswith("Specific(half, 7)")
    label = make_request()
    label.model_spec.version_label = "stable"
    assert find_error(predict, label) == (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: stable",
    )
    signature = make_request()
    signature.model_spec.signature_name = "other"
    assert find_error(predict, signature) == (
        "FAILED_PRECONDITION",
        'Serving signature key "other" not found.',
    )
    nameless = make_request(name="")
    assert find_error(predict, nameless)[1] == "ModelSpec has no name specified."
    empty = predict_pb2.PredictRequest()
    assert find_error(predict, empty) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    filtered = make_request()
    filtered.output_filter.append("z")
    assert find_error(predict, filtered)[1].startswith("output tensor alias not found in signature")
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "half"
    metadata = served.predictions.GetModelMetadata
    assert "at least one metadata_field" in find_error(metadata, asked)[1]
    asked.metadata_field.append("graph")
    assert find_error(metadata, asked)[1] == "Metadata field graph is not supported"


def test_classify_refuses_what_rest_refuses(served: Served) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "half"
    assert find_error(served.predictions.Classify, request)[1] == "Input is empty."
    request.input.example_list.examples.add()
    code, message = find_error(served.predictions.Classify, request)
    assert code == "INVALID_ARGUMENT"
    assert message.startswith("No classification inputs found in SignatureDef")


def test_an_error_that_nobody_expected(served: Served) -> None:
    code, message = find_error(served.predictions.Predict, make_request([-1.0]))
    assert (code, message) == ("INTERNAL", "RuntimeError: an error that nobody expected")
    record = json.loads(served.log.getvalue().splitlines()[-1])
    assert (record["status"], record["path"], record["model"]) == ("INTERNAL", "Predict", "half")


def test_a_deadline_of_the_client(served: Served) -> None:
    served.gate.close()
    try:
        code, _ = find_error(served.predictions.Predict, make_request(), timeout=0.2)
    finally:
        served.gate.open()
    assert code == "DEADLINE_EXCEEDED"


def test_no_client_may_choose_what_is_served(served: Served) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    entry = request.config.model_config_list.config.add()
    entry.name, entry.base_path, entry.model_platform = "passwords", "/etc", "tensorflow"
    assert find_error(served.models.HandleReloadConfigRequest, request)[0] == "UNIMPLEMENTED"


# --- limits


def test_a_message_that_is_too_long(served: Served) -> None:
    request = make_request(np.zeros(300_000, np.float32))
    assert find_error(served.predictions.Predict, request)[0] == "RESOURCE_EXHAUSTED"


def test_a_short_message_that_stands_for_a_large_array(served: Served) -> None:
    request = make_request()
    request.inputs["x"].Clear()
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=1 << 40)
    request.inputs["x"].float_val.append(1.0)
    code, message = find_error(served.predictions.Predict, request)
    assert (code, message) == (
        "INVALID_ARGUMENT",
        "x would take 4398046511104 bytes, more than 1000000",
    )


def test_calls_beyond_the_queue_are_refused(tmp_path: Path) -> None:
    with Served(tmp_path, max_queue=0) as served:
        served.gate.close()
        running = [served.predictions.Predict.future(make_request()) for _ in range(4)]
        for _ in range(4):
            assert served.gate.entered.acquire(timeout=60)
        assert find_error(served.predictions.Predict, make_request())[0] == "RESOURCE_EXHAUSTED"
        served.gate.open()
        assert [list(call.result().outputs["y"].float_val) for call in running] == [[2.5, 3.0]] * 4


def test_the_token(tmp_path: Path) -> None:
    with Served(tmp_path, auth_token="s3cret") as served:
        predict = served.predictions.Predict
        assert find_error(predict, make_request())[0] == "UNAUTHENTICATED"
        wrong = (("authorization", "Bearer wrong"),)
        assert find_error(predict, make_request(), metadata=wrong)[0] == "UNAUTHENTICATED"
        right = (("authorization", "Bearer s3cret"),)
        assert len(predict(make_request(), metadata=right).outputs["y"].float_val) == 2


def test_calls_under_way_are_answered_when_the_server_stops(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        served.gate.close()
        call = served.predictions.Predict.future(make_request())
        assert served.gate.entered.acquire(timeout=60)
        ended: threading.Event = served.server.stop(60)
        assert not ended.is_set()
        served.gate.open()
        assert list(call.result().outputs["y"].float_val) == [2.5, 3.0]
        assert ended.wait(60)


def test_a_port_has_one_server(served: Served, tmp_path: Path) -> None:
    other = build_grpc_server(served.services, AccessLog("none"), 1)
    with pytest.raises(Exception, match="the port is taken"):
        listen(other, served.address, None)


def test_channel_arguments() -> None:
    assert parse_channel_arguments("a=1,b=x") == [("a", 1), ("b", "x")]
    with pytest.raises(Exception, match="'a' is not KEY=VALUE"):
        parse_channel_arguments("a")


# --- tensors

TYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8"]
TYPES += ["uint16", "uint32", "uint64", "bool", "complex64", "complex128"]


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_arrays_of_every_type_as_messages(name: str, as_content: bool) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    array = np.array([[0, 1, 2], [3, 100, 5]]).astype(dtype)
    if array.dtype.kind == "c":
        array = array * dtype.type(1 - 2j)
    proto = tf.make_tensor_proto(0.0)
    proto.Clear()
    write_tensor(array, proto, as_content)
    assert bool(proto.tensor_content) is as_content
    decoded = tf.make_ndarray(proto)  # TensorFlow's own reader
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, array)
    np.testing.assert_array_equal(read_tensor("x", proto, 1000), array)


def test_strings_and_empty_arrays_as_messages() -> None:
    proto = tf.make_tensor_proto(0.0)
    for array in (np.array([[b"a\x00\xff"], [b""]], object), np.zeros((0, 3), np.float32)):
        proto.Clear()
        write_tensor(array, proto)
        np.testing.assert_array_equal(read_tensor("x", proto, 1000), array)
        assert tf.make_ndarray(proto).shape == array.shape


@pytest.mark.parametrize("wrong", ["dtype", "size", "rank", "negative"])
def test_messages_that_are_no_tensors(wrong: str) -> None:
    proto = tf.make_tensor_proto([1.0, 2.0])
    if wrong == "dtype":
        proto.dtype = 99
    elif wrong == "size":
        proto.tensor_content = b"123"
    elif wrong == "rank":
        proto.tensor_shape.unknown_rank = True
    else:
        proto.tensor_shape.dim[0].size = -1
    with pytest.raises(ServingError, match="tensor parsing error: x"):
        read_tensor("x", proto, 1000)
