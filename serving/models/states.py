"""What is known of a version: Serving's states, and the status that it reports."""

from __future__ import annotations

import dataclasses
from typing import Literal

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What ``GET /v1/models/NAME`` says of one version.

    Args:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING, or END: unloaded, or could not be loaded.
        error_code: canonical code by name; ``OK`` unless it could not be loaded.
        error_message: why not; empty with ``OK``.
    """

    version: int
    state: State
    error_code: str = "OK"
    error_message: str = ""
