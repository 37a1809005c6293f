"""Activations of a served model, in TensorFlow Serving's REST dialect."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from esc_tf.errors import EscTfError, RequestError
from esc_tf.interpretation.model_facts import SIGNATURE, ModelFacts

_TIMEOUT_S = 60.0
_MOST_TRIES = 6
_LONGEST_WAIT_S = 30.0


class ServedSource:
    """A model behind TensorFlow Serving's REST API, real or ``python -m serving``.

    Each clip is one request, so that no more than one clip's numbers are ever written as text; a
    server that is too busy (503) is asked again.

    Args:
        address: ``http://HOST:PORT/v1/models/NAME``, with ``/versions/N`` behind it if wanted.
        facts: from the model card of its export.
        token: for ``Authorization: Bearer``; None: none is sent.
        sleep: waits so many seconds.

    Raises:
        RequestError: the address is none, or the model gives no activations.
        EscTfError: the server cannot be reached, or fails.
    """

    def __init__(
        self,
        address: str,
        facts: ModelFacts,
        token: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name, self.facts = address.rstrip("/"), facts
        parts = urllib.parse.urlsplit(self.name)
        if not parts.hostname or "/v1/models/" not in parts.path or parts.query or parts.fragment:
            raise RequestError(
                f"{address}: is no address of a served model; write http://HOST:PORT/v1/models/NAME"
            )
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._sleep = sleep
        self.activation_names = self._ask_for_names()

    def compute(
        self, waveforms: Sequence[np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for waveform in waveforms:
            request = {"signature_name": SIGNATURE, "instances": [waveform.tolist()]}
            answer = self._ask(":predict", request)
            try:
                (prediction,) = answer["predictions"]
                for name in names:
                    rows[name].append(np.array(prediction[name], np.float32))
            except (KeyError, TypeError, ValueError) as error:
                raise EscTfError(
                    f"{self.name}:predict: answers without the activations "
                    f"({type(error).__name__}: {error})"
                ) from None
        return {name: np.stack(values) for name, values in rows.items()}

    def _ask_for_names(self) -> tuple[str, ...]:
        answer = self._ask("/metadata")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            found = signatures.get(SIGNATURE)
            names = () if found is None else tuple(found["outputs"])
        except (KeyError, TypeError, AttributeError):
            raise EscTfError(f"{self.name}/metadata: tells no signatures") from None
        if not names:
            raise RequestError(
                f"{self.name}: has no signature {SIGNATURE}; serve an export made with "
                "--activations"
            )
        return names

    def _ask(self, suffix: str, value: Any = None) -> Any:
        """Send a request, again while the server is busy, and read its answer."""
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.name + suffix, body, self._headers)
        for attempt in range(_MOST_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 503 or attempt == _MOST_TRIES - 1:
                        raise self._describe_refusal(suffix, error) from None
                    wait_s = _read_retry_after(error.headers.get("Retry-After"), attempt)
                self._sleep(wait_s)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                raise EscTfError(
                    f"{self.name}: no answer ({reason}); is the server running there?"
                ) from None
            except ValueError:
                raise EscTfError(
                    f"{self.name}{suffix}: answers with something else than JSON"
                ) from None
        raise AssertionError("unreachable")

    def _describe_refusal(self, suffix: str, error: urllib.error.HTTPError) -> EscTfError:
        try:
            said = json.loads(error.read())["error"]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            said = error.reason
        kind = RequestError if 400 <= error.code < 500 else EscTfError
        return kind(f"{self.name}{suffix}: the server answers {error.code} ({said})")


def _read_retry_after(text: str | None, attempt: int) -> float:
    """Seconds to wait: what the server says, else 0.5, 1, 2 …"""
    seconds = float(text) if text is not None and text.strip().isdecimal() else 0.5 * 2.0**attempt
    return min(seconds, _LONGEST_WAIT_S)
