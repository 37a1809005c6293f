"""Which models to serve: TensorFlow Serving's ``--model_config_file``, read and checked.

The file is a text proto of ``tensorflow.serving.ModelServerConfig``, whose class comes from the
package tensorflow-serving-api; neither that import nor anything else here loads TensorFlow.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from google.protobuf import text_format

from esc_tf.errors import RequestError
from serving.errors import ServingError

PLATFORM = "tensorflow"
_NO_LABELS: Mapping[str, int] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served.

    Args:
        kind: ``latest``, ``all`` or ``specific``.
        num_versions: how many of the highest numbers, for ``latest``; 0 means 1.
        versions: the numbers, for ``specific``.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One model to serve.

    Args:
        name: as in ``/v1/models/NAME``.
        base_path: folder whose sub-folders are the versions, by their numbers.
        policy: which of them are served.
        version_labels: version of each label.
        platform: ``tensorflow``, the only one there is.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    version_labels: Mapping[str, int] = dataclasses.field(default_factory=lambda: _NO_LABELS)
    platform: str = PLATFORM


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How SavedModels are loaded.

    Args:
        tags: of the graph to load.
        warm_up: replay the requests in ``assets.extra`` before anyone else may call the model.
        warm_up_iterations: how often each of them is replayed.
    """

    tags: tuple[str, ...] = ("serve",)
    warm_up: bool = True
    warm_up_iterations: int = 1


DEFAULT_LOAD_OPTIONS = LoadOptions()


def read_model_config_file(path: Path) -> tuple[ModelConfig, ...]:
    """Read a ``--model_config_file``.

    A model's ``logging_config`` has no effect: requests are not recorded here.

    Args:
        path: text proto of ``ModelServerConfig`` with a ``model_config_list``.

    Returns:
        The models in the order of the file.

    Raises:
        RequestError: the file cannot be read, is no such text proto, or has no
            ``model_config_list``, as a file that is just being written.
    """
    from tensorflow_serving.config import model_server_config_pb2

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read as a model config file: {error}") from error
    server_config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, server_config)
    except text_format.ParseError as error:
        raise RequestError(f"{path}: no text proto of ModelServerConfig: {error}") from error
    if server_config.HasField("custom_model_config"):
        raise RequestError(f"{path}: custom_model_config is not supported; use model_config_list")
    if not server_config.HasField("model_config_list"):
        raise RequestError(f"{path}: has no model_config_list; list the models to serve in one")
    return tuple(_read_model(entry, path) for entry in server_config.model_config_list.config)


def check_configs(configs: Sequence[ModelConfig]) -> None:
    """Check what Serving checks of a list of models, in its words.

    Raises:
        ServingError: INVALID_ARGUMENT for a name that comes twice, a base path that is not
            absolute, or a platform other than ``tensorflow``.
    """
    seen: set[str] = set()
    for config in configs:
        if config.name in seen:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Illegal to list model {config.name} multiple times in config list",
            )
        seen.add(config.name)
    for config in configs:
        if not config.base_path.is_absolute():
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Expected model {config.name} to have an absolute path or URI; got "
                f"base_path()={config.base_path}",
            )
    for config in configs:
        if not config.platform:
            raise ServingError(
                "INVALID_ARGUMENT",
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {config.name}",
            )
        if config.platform != PLATFORM:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Model {config.name} requests unsupported platform {config.platform}",
            )


def _read_model(entry: Any, path: Path) -> ModelConfig:
    if "://" in entry.base_path:
        raise RequestError(
            f"{path}: base_path {entry.base_path} of model {entry.name} is a URI; copy the model "
            "into a folder of this machine and name that"
        )
    platform = entry.model_platform
    if entry.model_type:
        if platform:
            raise RequestError(
                f"{path}: Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {entry.name}"
            )
        platform = PLATFORM if entry.model_type == 1 else f"model_type {entry.model_type}"
    return ModelConfig(
        name=entry.name,
        base_path=Path(entry.base_path),
        policy=_read_policy(entry.model_version_policy),
        version_labels=types.MappingProxyType(dict(entry.version_labels)),
        platform=platform,
    )


def _read_policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy("all")
    if choice == "specific":
        return VersionPolicy("specific", versions=tuple(policy.specific.versions))
    return VersionPolicy("latest", num_versions=max(policy.latest.num_versions, 1))
