"""Labels of versions, such as ``stable`` and ``canary``, and when they may move."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from serving.errors import ServingError
from serving.models.config import ModelConfig

Labels = Mapping[str, Mapping[str, int]]


def choose_labels(
    configs: Sequence[ModelConfig],
    available: Mapping[str, Collection[int]],
    current: Labels,
    allow_unavailable: bool,
) -> Labels:
    """Read the labels of all models, and check the versions that they name.

    Args:
        configs: the models.
        available: versions of each model that are AVAILABLE.
        current: the labels until now.
        allow_unavailable: let a label name a version that is not AVAILABLE, unless the same label
            names another version now.

    Returns:
        Version of each label of each model.

    Raises:
        ServingError: FAILED_PRECONDITION for a version that is not AVAILABLE.
    """
    labels: dict[str, dict[str, int]] = {}
    for config in configs:
        for label, version in config.version_labels.items():
            moves = current.get(config.name, {}).get(label, version) != version
            if version not in available.get(config.name, ()) and (moves or not allow_unavailable):
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {version} of model {config.name}, which "
                    "is not currently available for inference",
                )
            labels.setdefault(config.name, {})[label] = version
    return labels


def find_labelled(labels: Labels, model_name: str, label: str) -> int:
    """Look a label up.

    Raises:
        ServingError: INVALID_ARGUMENT when the model has no such label.
    """
    version = labels.get(model_name, {}).get(label)
    if version is None:
        raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
    return version
