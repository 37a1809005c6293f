"""Serve SavedModels over REST and gRPC: ``python -m serving``."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import esc_tf
from esc_tf.command import quiet_import, run_command
from esc_tf.errors import EXIT_DONE, EXIT_FAILED, EscTfError, RequestError
from serving.errors import ServingError
from serving.flags import DEFAULT_GRPC_PORT, WITHOUT_MEANING, build_parser, count_threads
from serving.settings import ServerSettings

if TYPE_CHECKING:
    import grpc

    from serving.access_log import AccessLog
    from serving.api import Services
    from serving.config_files import TlsConfig
    from serving.metrics import Metrics
    from serving.models.config import ModelConfig
    from serving.models.manager import ModelManager

_LOG = logging.getLogger("serving")
_DEFAULT_MODEL_NAME = "default"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _serve(arguments: argparse.Namespace) -> int:
    if arguments.version:
        print(f"esc_tf {esc_tf.__version__}\nTensorFlow {metadata.version('tensorflow')}")
        return EXIT_DONE
    _start_diagnostics()
    _check(arguments)
    settings = _make_settings(arguments)
    tls = _read_tls(arguments)

    from serving.access_log import AccessLog
    from serving.app import create_app
    from serving.envelope import Draining
    from serving.lifecycle import bind, run_servers
    from serving.metrics import Metrics

    http_socket = None
    if arguments.rest_api_port:
        http_socket = bind(arguments.host, arguments.rest_api_port)
    with quiet_import():
        from serving.api import Services
    metrics = Metrics(lambda: manager.model_names)
    manager = _make_manager(arguments, metrics)
    services = Services.build(manager, settings, metrics)
    log, draining = AccessLog(arguments.log_format), Draining()
    grpc_server, grpc_address = _make_grpc_server(arguments, services, log, tls)
    app = create_app(services, log, draining)
    try:
        manager.start()
    except ServingError as error:
        raise EscTfError(error.message) from None
    _watch_config_file(arguments, manager)

    def tell() -> None:
        places = [f"http://{_join(arguments.host, arguments.rest_api_port)}"] if http_socket else []
        places += [f"gRPC {grpc_address}"] if grpc_address else []
        _LOG.info("serving %s at %s", ", ".join(manager.model_names), " and ".join(places))

    all_answered = run_servers(
        app,
        http_socket,
        grpc_server,
        draining,
        client_timeout_s=arguments.client_timeout,
        drain_timeout_s=arguments.drain_timeout,
        on_listening=tell,
    )
    if not all_answered:  # threads that still work on lost requests would be waited for
        sys.stdout.flush()
        os._exit(EXIT_FAILED)
    services.close()
    manager.close()
    _LOG.info("stopped; every accepted request was answered")
    return EXIT_DONE


def _start_diagnostics() -> None:
    """Lines on stderr; stdout is the access log's."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s: %(message)s")
    logging.getLogger("absl").setLevel(logging.WARNING)


def _check(arguments: argparse.Namespace) -> None:
    """Raise RequestError for flags that go together badly; name those that mean nothing."""
    problems = []
    if arguments.port == 0 and not arguments.rest_api_port and not arguments.grpc_socket_path:
        problems.append("--port=0 and --rest_api_port=0: nobody could connect; leave one out")
    if arguments.port and arguments.port == arguments.rest_api_port:
        problems.append("--port and --rest_api_port: gRPC and HTTP need different ports")
    if arguments.batching_parameters_file and not arguments.enable_batching:
        problems.append("--batching_parameters_file: has an effect with --enable_batching alone")
    if arguments.model_name and not (arguments.model_base_path or arguments.model_config_file):
        problems.append("--model_name: say where its versions lie, with --model_base_path")
    if arguments.model_base_path and "://" in arguments.model_base_path:
        problems.append(
            f"--model_base_path: {arguments.model_base_path} is no folder here; mount it"
        )
    if arguments.use_alts_credentials:
        problems.append("--use_alts_credentials: ALTS is not possible; see --ssl_config_file")
    if problems:
        raise RequestError(problems)
    if arguments.host not in _LOOPBACK and not arguments.auth_token_file:
        _LOG.warning(
            "whoever reaches %s may use this server; see --auth_token_file", arguments.host
        )
    for name, reason in WITHOUT_MEANING.items():
        if getattr(arguments, name) is not None:
            _LOG.info("--%s has no effect here: %s", name, reason)


def _make_settings(arguments: argparse.Namespace) -> ServerSettings:
    from serving.config_files import read_metrics_path

    metrics_path = None
    if arguments.monitoring_config_file:
        metrics_path = read_metrics_path(Path(arguments.monitoring_config_file))
    timeout_ms = arguments.rest_api_timeout_in_ms
    return ServerSettings(
        max_request_bytes=arguments.max_request_bytes,
        max_pending_bytes=arguments.max_pending_bytes,
        num_threads=count_threads(arguments.rest_api_num_threads, arguments.enable_batching),
        max_queue=arguments.max_queue,
        request_timeout_s=timeout_ms / 1000 if timeout_ms > 0 else None,
        client_timeout_s=arguments.client_timeout,
        metrics_path=metrics_path,
        auth_token=_read_token(arguments.auth_token_file),
        enable_cors=arguments.rest_api_enable_cors_support,
        cors_origins=tuple(arguments.cors_origin),
    )


def _read_token(file: str | None) -> str | None:
    if not file:
        return None
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--auth_token_file: {file} cannot be read: {error}") from None
    token = lines[0].strip() if lines else ""
    if not token or not (token.isascii() and token.isprintable()) or " " in token:
        raise RequestError(
            f"--auth_token_file: the first line of {file} must be a token of printable ASCII"
        )
    return token


def _read_tls(arguments: argparse.Namespace) -> TlsConfig | None:
    from serving.config_files import read_tls_config

    return read_tls_config(Path(arguments.ssl_config_file)) if arguments.ssl_config_file else None


def _make_manager(arguments: argparse.Namespace, metrics: Metrics) -> ModelManager:
    with quiet_import():
        from serving.batching.parameters import BatchingParameters, read_batching_parameters
        from serving.models.manager import ModelManager
        from serving.models.saved_model import LoadOptions, load_servable

    batching = None
    if arguments.batching_parameters_file:
        batching = read_batching_parameters(Path(arguments.batching_parameters_file))
    elif arguments.enable_batching:
        batching = BatchingParameters()
    _set_parallelism(arguments)
    options = LoadOptions(
        tags=tuple(filter(None, arguments.saved_model_tags.split(","))),
        warm_up=arguments.enable_model_warmup,
        warm_up_iterations=max(arguments.num_request_iterations_for_warmup, 1),
    )
    try:
        return ModelManager(
            _find_models(arguments),
            poll_wait_s=arguments.file_system_poll_wait_seconds,
            batching=batching,
            batching_per_model=arguments.enable_per_model_batching_parameters,
            num_load_retries=arguments.max_num_load_retries,
            load_retry_interval_s=max(arguments.load_retry_interval_micros / 1e6, 0.0),
            allow_labels_for_unavailable=arguments.allow_version_labels_for_unavailable_models,
            load=functools.partial(load_servable, options=options),
            observe_batch=metrics.record_batch,
            report=_LOG.info,
        )
    except ServingError as error:  # the list of models is wrong
        raise RequestError(error.message) from None


def _set_parallelism(arguments: argparse.Namespace) -> None:
    import tensorflow as tf

    both = arguments.tensorflow_session_parallelism
    intra = arguments.tensorflow_intra_op_parallelism or both
    inter = arguments.tensorflow_inter_op_parallelism or both
    tf.config.threading.set_intra_op_parallelism_threads(intra)
    tf.config.threading.set_inter_op_parallelism_threads(inter)


def _find_models(arguments: argparse.Namespace) -> Sequence[ModelConfig]:
    from serving.models.config import ModelConfig, read_model_config_file

    if arguments.model_config_file:
        return read_model_config_file(Path(arguments.model_config_file))
    name = arguments.model_name
    if arguments.model_base_path:
        folder = Path(os.path.abspath(Path(arguments.model_base_path).expanduser()))
        return [ModelConfig(name or _DEFAULT_MODEL_NAME, folder)]

    from esc_tf.shipped import find_shipped
    from serving.shipped_model import prepare_saved_model

    shipped = find_shipped()
    folder = prepare_saved_model(shipped.name, shipped.keras_file, _LOG.info)
    # The name that clients, and tensorflow_model_server, take where none is said.
    return [ModelConfig("default", folder)]


def _make_grpc_server(
    arguments: argparse.Namespace, services: Services, log: AccessLog, tls: TlsConfig | None
) -> tuple[grpc.Server | None, str]:
    """The server and where it listens; None and nowhere when it shall not be."""
    if arguments.port == 0 and not arguments.grpc_socket_path:
        return None, ""
    from serving.grpc_server import build_grpc_server, listen, parse_channel_arguments

    server = build_grpc_server(
        services,
        log,
        count_threads(arguments.grpc_max_threads, arguments.enable_batching),
        parse_channel_arguments(arguments.grpc_channel_arguments or ""),
        arguments.enable_serialization_as_tensor_content,
    )
    addresses = []
    if arguments.port != 0:
        address = _join(arguments.host, arguments.port or DEFAULT_GRPC_PORT)
        try:
            listen(server, address, tls)
            addresses.append(address)
        except RequestError as error:
            if arguments.port is not None or tls is not None:
                raise
            # Nobody asked for this port: a second server on the machine needs no further flag.
            _LOG.warning("no gRPC: %s", error)
    if arguments.grpc_socket_path:
        address = f"unix:{arguments.grpc_socket_path}"
        listen(server, address, tls)
        addresses.append(address)
    return (server, ", ".join(addresses)) if addresses else (None, "")


def _watch_config_file(arguments: argparse.Namespace, manager: ModelManager) -> None:
    """Read the models' file again and again, if that was asked for."""
    wait_s = arguments.model_config_file_poll_wait_seconds
    if not (wait_s and arguments.model_config_file):
        return
    from serving.models.config import read_model_config_file

    def watch() -> None:
        said, pause = "", threading.Event()
        while not pause.wait(wait_s):
            try:
                manager.reload(read_model_config_file(Path(arguments.model_config_file)))
                said = ""
            except (ServingError, EscTfError) as error:
                if str(error) != said:
                    said = str(error)
                    _LOG.error("the models stay as they are: %s", error)

    threading.Thread(target=watch, name="config-file", daemon=True).start()


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_serve, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
