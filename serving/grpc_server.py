"""The gRPC server: ports, threads, limits, TLS and the bearer token."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from esc_tf.errors import RequestError
from serving.access_log import AccessLog
from serving.api import Services
from serving.config_files import TlsConfig
from serving.grpc_service import ModelService, PredictionService
from serving.security import token_matches


def build_grpc_server(
    services: Services,
    log: AccessLog,
    num_threads: int,
    options: Sequence[tuple[str, int | str]] = (),
    as_content: bool = False,
) -> grpc.Server:
    """Make the server; it listens nowhere yet.

    Args:
        services: what all requests share.
        log: the access log.
        num_threads: calls that are worked on at once. As many more as the queue is long may wait;
            beyond that RESOURCE_EXHAUSTED.
        options: gRPC's channel arguments.
        as_content: see ``serving.tensor_protos.write_tensor``.
    """
    settings = services.settings
    limits = [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        # Without this a second server on the same port would get half of the calls.
        ("grpc.so_reuseport", 0),
    ]
    guard = [] if settings.auth_token is None else [_BearerToken(settings.auth_token)]
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(num_threads, "grpc"),
        interceptors=guard,
        options=[*limits, *options],
        maximum_concurrent_rpcs=num_threads + settings.max_queue,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(services, log, as_content), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(services, log), server)
    return server


def listen(server: grpc.Server, address: str, tls: TlsConfig | None) -> None:
    """Bind the server to an address.

    Raises:
        RequestError: it is taken, or the key and the certificate cannot be used.
    """
    try:
        if tls is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, _make_credentials(tls))
    except RuntimeError:
        bound = 0
    if not bound and not address.startswith("unix:"):
        raise RequestError(
            f"gRPC cannot listen on {address}: the port is taken"
            f"{'' if tls is None else ', or the key and the certificate do not fit'}; "
            "choose another with --port, or --port=0 for none"
        )


def parse_channel_arguments(text: str) -> list[tuple[str, int | str]]:
    """Channel arguments from ``--grpc_channel_arguments``; whole numbers are numbers.

    Raises:
        RequestError: one has no value.

    >>> parse_channel_arguments("grpc.max_connection_age_ms=2000,grpc.default_authority=x")
    [('grpc.max_connection_age_ms', 2000), ('grpc.default_authority', 'x')]
    """
    arguments: list[tuple[str, int | str]] = []
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise RequestError(f"--grpc_channel_arguments: '{pair}' is not KEY=VALUE")
        try:
            arguments.append((key, int(value)))
        except ValueError:
            arguments.append((key, value))
    return arguments


def _make_credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )


class _BearerToken(grpc.ServerInterceptor):
    """Asks for the token in the metadata ``authorization``."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        metadata = dict(details.invocation_metadata)
        if token_matches(str(metadata.get("authorization", "")), self._token):
            return continuation(details)
        return grpc.unary_unary_rpc_method_handler(_refuse)


def _refuse(request: object, context: grpc.ServicerContext) -> None:
    context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        "This server wants a token: send `authorization: Bearer TOKEN`",
    )
