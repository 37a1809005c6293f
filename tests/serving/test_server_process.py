"""The server as it is started by users: real processes, signals, models and clients."""

from __future__ import annotations

import collections
import contextlib
import functools
import http.client
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.saved_model import write_saved_model
from tests.export.models import build_tiny
from tests.serving.mutations import mutate
from tests.serving.running_server import in_background, read_answer, read_reply
from tests.serving.saved_models import write_half
from tests.serving.server_process import ServerProcess

PREDICT = "/v1/models/half:predict"
MIB = 1 << 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_half(folder / "half", 1, 2.0)
    write_saved_model(build_tiny(), folder / "tiny", (), 1, "tiny")
    entries = [
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}'
        for name in ("half", "tiny")
    ]
    (folder / "models.config").write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerProcess]:
    flags = [f"--model_config_file={models / 'models.config'}", "--client_timeout=2"]
    flags += ["--max_num_load_retries=0", "--model_config_file_poll_wait_seconds=1"]
    with ServerProcess(*flags) as running:
        yield running


def wait_until(is_so: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2400):
        if is_so():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come true")


# --- the same numbers by every way


def test_scores_are_equal_to_the_bit(server: ServerProcess, models: Path) -> None:
    rng = np.random.default_rng(0)
    waveform = rng.normal(0.0, 0.1, (3, 4000)).astype(np.float32)
    loaded = tf.saved_model.load(str(models / "tiny" / "1"))
    direct = loaded.signatures["serving_default"](waveform=tf.constant(waveform))

    body = {"inputs": {"waveform": waveform.astype(float).tolist()}}
    rest = server.request("POST", "/v1/models/tiny:predict", body).json["outputs"]

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request).outputs

    assert set(rest) == set(outputs) == set(direct) == {"probabilities", "logits"}
    for name, expected in direct.items():
        bits = expected.numpy().view(np.uint32)
        assert np.isfinite(expected).all() and len(np.unique(bits)) > 1
        np.testing.assert_array_equal(np.float32(rest[name]).view(np.uint32), bits)
        np.testing.assert_array_equal(tf.make_ndarray(outputs[name]).view(np.uint32), bits)


# --- new configurations and versions


def test_the_models_file_is_followed(server: ServerProcess, models: Path) -> None:
    file = models / "models.config"
    before = file.read_text()
    path = "/v1/models/half/labels/stable:predict"
    body = {"instances": [1]}
    assert server.request("POST", path, body).status == 400
    label = 'name: "half" version_labels { key: "stable" value: 1 }'
    file.write_text(before.replace('name: "half"', label))
    wait_until(lambda: server.request("POST", path, body).status == 200)
    file.write_text("no models at all")
    wait_until(lambda: any("the models stay as they are" in line for line in server.errors))
    assert server.request("POST", path, body).json == {"predictions": [2.5]}
    file.write_text(before)
    wait_until(lambda: server.request("POST", path, body).status == 400)


def test_a_broken_new_version_leaves_the_old_one_serving(
    server: ServerProcess, models: Path
) -> None:
    def read_states() -> dict[str, dict[str, object]]:
        statuses = server.request("GET", "/v1/models/half").json["model_version_status"]
        return {status["version"]: status for status in statuses}

    broken = models / "half" / "2"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"\x00 no model \xff" * 100)
    wait_until(lambda: read_states().get("2", {}).get("state") == "END")
    states = read_states()
    assert states["2"]["status"]["error_code"] != "OK"  # type: ignore[index]
    assert states["2"]["status"]["error_message"]  # type: ignore[index]
    assert states["1"]["state"] == "AVAILABLE"
    assert server.request("POST", PREDICT, {"instances": [1]}).json == {"predictions": [2.5]}
    assert server.request("GET", "/healthz").status == 200

    write_half(models / "half", 3, 5.0)
    wait_until(lambda: read_states().get("3", {}).get("state") == "AVAILABLE")
    assert server.request("POST", PREDICT, {"instances": [1]}).json == {"predictions": [5.5]}


# --- clients that do harm


def send_zeros(server: ServerProcess, head: str, pieces: Callable[[], bytes], count: int) -> bytes:
    """Sends as a client that does not look for an answer before it has sent everything."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as client:
        client.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(count):
                client.sendall(pieces())
        return read_reply(client)


def test_a_gigabyte_is_not_held_in_memory(server: ServerProcess) -> None:
    assert server.request("POST", PREDICT, {"instances": [1]}).status == 200
    before = server.measure_peak_bytes()
    zeros = bytes(MIB)
    reply = send_zeros(server, f"Content-Length: {1 << 30}", lambda: zeros, 1024)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert server.measure_peak_bytes() - before < 20 * MIB

    chunk = b"100000\r\n" + zeros + b"\r\n"
    reply = send_zeros(server, "Transfer-Encoding: chunked", lambda: chunk, 1024)
    assert reply.startswith(b"HTTP/1.1 413 ")
    # As much as a request may be, until it was known to be more.
    assert server.measure_peak_bytes() - before < 150 * MIB
    assert server.request("POST", PREDICT, {"instances": [1]}).status == 200


def test_a_client_that_stalls_is_let_go_and_holds_up_nobody(server: ServerProcess) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
    with contextlib.ExitStack() as opened:
        stalled = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=120))
            for _ in range(100)
        ]
        for client in stalled:
            client.sendall(head)
        assert server.request("POST", PREDICT, {"instances": [1]}).status == 200
        replies = [read_reply(client) for client in stalled]
    assert all(reply.startswith(b"HTTP/1.1 408 ") for reply in replies)


def test_nesting_without_end_is_refused(server: ServerProcess) -> None:
    for body in (b'{"instances": ' + b"[" * 100_000, b'{"a":' * 100_000):
        answer = server.request("POST", PREDICT, body)
        assert answer.status == 400
        assert answer.error


@pytest.mark.parametrize("part", range(4))
def test_mutated_requests_are_answered(server: ServerProcess, part: int) -> None:
    """``ESC_TF_NUM_MUTATIONS=10000`` sends as many; the same numbers are the same requests."""
    count = int(os.environ.get("ESC_TF_NUM_MUTATIONS", "400")) // 4
    before = server.request("POST", PREDICT, {"instances": [1]}).json

    def send(first: int) -> collections.Counter[int]:
        statuses: collections.Counter[int] = collections.Counter()
        connection = server.connect()
        for number in range(first, (part + 1) * count, 4):
            request = mutate(number)
            connection.request(request.method, request.path, request.body, request.headers)
            answer = read_answer(connection)
            statuses[answer.status] += 1
            is_api = request.path.lower().startswith("/v1/")
            if answer.status >= 400 and request.method not in ("HEAD", "OPTIONS"):
                assert answer.error, number
            assert answer.status != 500 or not is_api, (number, answer.body)
        return statuses

    first = part * count
    sends = [functools.partial(send, first + offset) for offset in range(4)]
    with in_background(*sends, patience_s=3600) as results:
        pass
    for result in results:
        assert isinstance(result, collections.Counter), result
    statuses = sum(results, collections.Counter())
    assert sum(statuses.values()) == count
    assert statuses[200] > count / 20 and statuses[400] > count / 4, statuses
    assert server.request("POST", PREDICT, {"instances": [1]}).json == before
    assert not any("Traceback" in line for line in server.errors), server.errors


# --- signals


class Client:
    """Sends one request after another until nobody can be reached any more."""

    def __init__(self, server: ServerProcess, keep_alive: bool) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._server = server
        self._keep_alive = keep_alive

    def run(self) -> None:
        connection = self._server.connect()
        while True:
            if connection.sock is None:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
                except ConnectionResetError:  # refused later: the server was closing its door
                    return
            try:
                connection.request("POST", PREDICT, json.dumps({"instances": [self.answered]}))
                response = connection.getresponse()
                content = json.loads(response.read())
                assert response.status == 200, content
                (result,) = content["predictions"]
                assert (result - self.answered / 2) % 1 == 0
                self.answered += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.lost.append(repr(error))
                connection.close()
            if not self._keep_alive:
                connection.close()


class GrpcClient(Client):
    """The same over gRPC."""

    def run(self) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half"
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while True:
                request.inputs["x"].CopyFrom(tf.make_tensor_proto([float(self.answered)]))
                try:
                    (result,) = stub.Predict(request, timeout=120).outputs["y"].float_val
                except grpc.RpcError as error:
                    # A call that the transport took and no handler yet is cancelled, not refused.
                    if error.code() not in (
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.CANCELLED,
                    ):
                        self.lost.append(str(error))
                    return  # refused; whether one was lost, the server's log says
                assert (result - self.answered / 2) % 1 == 0
                self.answered += 1


def test_sigterm_under_load_loses_no_request(models: Path) -> None:
    flags = [f"--model_base_path={models / 'half'}", "--model_name=half", "--enable_batching"]
    with ServerProcess(*flags) as server:
        clients = [Client(server, keep_alive=number % 2 == 0) for number in range(12)]
        clients += [GrpcClient(server, keep_alive=True) for _ in range(4)]
        with in_background(*[client.run for client in clients]) as ended:
            wait_until(lambda: all(client.answered > 20 for client in clients))
            server.terminate()
        assert server.wait() == 0
        assert ended == [None] * 16
        assert [client.lost for client in clients] == [[]] * 16
        assert any("every accepted request was answered" in line for line in server.errors)
        answered = sum(record["status"] in (200, "OK") for record in server.read_log())
        assert answered == sum(client.answered for client in clients)


def test_a_connection_reset_is_no_error_of_the_server(server: ServerProcess) -> None:
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert server.request("GET", "/healthz").status == 200
    assert not any("Traceback" in line for line in server.errors)
