"""TensorFlow Serving's small configuration files, as text protos: monitoring and TLS.

The package tensorflow-serving-api does not bring these messages, so their fields are declared here.
Source: ``tensorflow_serving/config/monitoring_config.proto`` and ``ssl_config.proto``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from esc_tf.errors import RequestError
from serving.metrics import DEFAULT_PATH

_FIELD = descriptor_pb2.FieldDescriptorProto
_STRING, _BOOL = _FIELD.TYPE_STRING, _FIELD.TYPE_BOOL
_PACKAGE = "tensorflow.serving"
_MESSAGES: Mapping[str, Mapping[str, int | str]] = {
    "PrometheusConfig": {"enable": _BOOL, "path": _STRING},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "SSLConfig": {
        "server_key": _STRING,
        "server_cert": _STRING,
        "custom_ca": _STRING,
        "client_verify": _BOOL,
    },
}


@dataclasses.dataclass(frozen=True)
class TlsConfig:
    """What gRPC over TLS needs, all of it PEM.

    Args:
        server_key: private key.
        server_cert: certificate, and those that lead to a known one.
        custom_ca: certificates by which clients are known; empty for the system's.
        client_verify: whether a client must bring a certificate.
    """

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False


def read_metrics_path(path: Path) -> str | None:
    """Read a ``--monitoring_config_file``.

    Returns:
        Where Prometheus reads; None when that is not enabled.

    Raises:
        RequestError: the file cannot be read, is no such text proto, or its path is no path.
    """
    config = _read(path, "MonitoringConfig").prometheus_config
    if not config.enable:
        return None
    if not (config.path or DEFAULT_PATH).startswith("/"):
        raise RequestError(f"{path}: path: '{config.path}' must begin with '/'")
    return config.path or DEFAULT_PATH


def read_tls_config(path: Path) -> TlsConfig:
    """Read an ``--ssl_config_file``.

    Raises:
        RequestError: the file cannot be read, is no such text proto, or lacks key or certificate.
    """
    message = _read(path, "SSLConfig")
    if not (message.server_key and message.server_cert):
        raise RequestError(f"{path}: server_key and server_cert are both needed")
    return TlsConfig(
        message.server_key, message.server_cert, message.custom_ca, message.client_verify
    )


def _read(path: Path, name: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read as {name}: {error}") from error
    message = _make_message_class(name)()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise RequestError(f"{path}: no text proto of {name}: {error}") from error
    return message


def _make_message_class(name: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="server_configs.proto", package=_PACKAGE, syntax="proto3"
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            added = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
