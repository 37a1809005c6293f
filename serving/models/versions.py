"""Which versions of a model lie on disk, and which of them its policy wants served."""

from __future__ import annotations

import re
from pathlib import Path

from serving.models.config import ModelConfig

# What absl::SimpleAtoi<int64> takes: ASCII white space around, a sign, leading zeros.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+[ \t\n\v\f\r]*", re.ASCII)
_INT64 = range(-(2**63), 2**63)

#: Path, size and time of change of each file in a folder.
Fingerprint = frozenset[tuple[str, int, int]]


def parse_version(name: str) -> int | None:
    """Read a folder's name as a version as Serving does: ``00000123`` is 123, ``v1`` is none."""
    if not _NUMBER.fullmatch(name):
        return None
    version = int(name)
    return version if version in _INT64 else None


def list_versions(base_path: Path) -> dict[int, Path] | None:
    """Find the versions in a model's folder.

    Args:
        base_path: folder of all versions.

    Returns:
        Folder of each version, lowest number first. Of several names of one number, such as ``1``
        and ``001``, the last in the order of their characters. None when the base path is not
        there or cannot be read, which says nothing about the versions: a share may be away.
    """
    try:
        names = sorted(path.name for path in base_path.iterdir())
    except OSError:
        return None
    found = {
        version: base_path / name for name in names if (version := parse_version(name)) is not None
    }
    return dict(sorted(found.items()))


def choose_versions(config: ModelConfig) -> dict[int, Path] | None:
    """Find the versions that a model's policy wants served now.

    Args:
        config: the model.

    Returns:
        Folder of each version, lowest number first; None as ``list_versions``.
    """
    found = list_versions(config.base_path)
    if found is None:
        return None
    policy = config.policy
    if policy.kind == "all":
        return found
    if policy.kind == "specific":
        return {version: path for version, path in found.items() if version in policy.versions}
    highest = list(found)[-max(policy.num_versions, 1) :]
    return {version: found[version] for version in highest}


def take_fingerprint(folder: Path) -> Fingerprint:
    """Return name, size and time of each file, by which a changed folder is known.

    A version that could not be loaded is loaded again when its files are others: it may have been
    copied into place while the server looked.
    """
    files = []
    for path in folder.rglob("*"):
        try:
            found = path.stat()
        except OSError:  # removed between the two calls
            continue
        files.append((str(path.relative_to(folder)), found.st_size, found.st_mtime_ns))
    return frozenset(files)
