"""A client of TensorFlow Serving's REST API, real or embedded, for models of sounds.

    python -m serving.client http://localhost:8501 FILE… [--model NAME] [--top-k K] [--json]

It speaks the REST dialect alone, with Python's own HTTP. Sounds go to the signature ``wav_bytes``
as WAV files in base64; to a model without one as floats to ``serving_default``, whose sample rate
``--sample-rate`` must then say. Labels are learnt from one answer of the signature ``classify``,
since Serving's REST API cannot call a signature that takes nothing.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import http.client
import json
import math
import os
import random
import ssl
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esc_tf.command import print_problems, run_command
from esc_tf.errors import EXIT_BAD_REQUEST, EXIT_DONE, EscTfError, RequestError
from serving.wav_upload import read_wav, read_waveform

TOKEN_VARIABLE = "ESC_TF_SERVING_TOKEN"
_WAV, _DEFAULT, _CLASSIFY = "wav_bytes", "serving_default", "classify"
_CLASSIFY_METHOD = "tensorflow/serving/classify"
_LONGEST_WAIT_S = 30.0


class ServerError(EscTfError):
    """The server cannot be reached, or fails. Exit code 1."""


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """What a model says of one class.

    Attributes:
        label: its name, or ``class N`` where the model tells none.
        probability: from 0 to 1.
    """

    label: str
    probability: float


class ServingClient:
    """A model behind TensorFlow Serving's REST API. Not for two threads.

    Args:
        url: ``http://HOST:PORT``, or the address of a model under it (``…/v1/models/NAME``,
            ``…/v1/models/NAME/versions/2``), which then says which model is meant.
        model: the model's name, where ``url`` does not say it.
        version: a number; None: the newest.
        label: a version by its label.
        signature: None: ``wav_bytes``, or ``serving_default`` for a model without it.
        sample_rate_hz: of the model's waveforms; needed for ``serving_default``.
        label_names: names of the classes; None: asked from the model.
        timeout_s: for the connection and for each wait for an answer.
        retries: how often a request is sent again that the server was too busy for (503).
        token: for ``Authorization: Bearer``.
        sleep: waits so many seconds.

    Raises:
        RequestError: the address is none.
    """

    def __init__(
        self,
        url: str,
        model: str = "default",
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str | None = None,
        sample_rate_hz: int | None = None,
        label_names: Sequence[str] | None = None,
        timeout_s: float = 30.0,
        retries: int = 5,
        token: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place, self._is_tls, prefix = _parse_url(url)
        self._path = prefix if "/v1/models/" in prefix else _model_path(prefix, model)
        if version is not None:
            self._path += f"/versions/{version}"
        elif label is not None:
            self._path += f"/labels/{urllib.parse.quote(label, safe='')}"
        self._signature = signature
        self._sample_rate_hz = sample_rate_hz
        self._label_names = None if label_names is None else list(label_names)
        self._timeout_s = timeout_s
        self._retries = retries
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None
        self._signatures: Mapping[str, Any] | None = None

    def __enter__(self) -> ServingClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def classify_file(self, path: str | Path) -> list[ClassScore]:
        """Scores of all classes for a sound file, the likeliest first.

        Raises:
            RequestError: the file, the model or something else that was asked for is wrong.
            ServerError: the server cannot be reached, fails, or stays too busy.
        """
        signature = self.choose_signature()
        if signature == _WAV:
            value: Any = {"b64": base64.b64encode(read_wav(path)).decode("ascii")}
        else:
            assert self._sample_rate_hz is not None
            value = read_waveform(path, self._sample_rate_hz)
        request = {"signature_name": signature, "instances": [value]}
        answer = self._ask("POST", ":predict", request)
        probabilities = _read_probabilities(answer, str(path))
        labels = self._find_labels(len(probabilities))
        order = sorted(range(len(labels)), key=lambda index: -probabilities[index])
        return [ClassScore(labels[index], probabilities[index]) for index in order]

    def fetch_signatures(self) -> Mapping[str, Any]:
        """The model's signatures by name, as ``GET …/metadata`` tells them.

        Raises:
            RequestError, ServerError: as for ``classify_file``.
        """
        if self._signatures is None:
            answer = self._ask("GET", "/metadata")
            try:
                self._signatures = answer["metadata"]["signature_def"]["signature_def"]
            except (KeyError, TypeError):
                raise ServerError(f"{self._address}/metadata: tells no signatures") from None
        return self._signatures

    @property
    def _address(self) -> str:
        return f"{'https' if self._is_tls else 'http'}://{self._place}{self._path}"

    def choose_signature(self) -> str:
        """The signature that sounds go to.

        Raises:
            RequestError: the model cannot be used so.
            ServerError: as for ``classify_file``.
        """
        if self._signature is None:
            signatures = self.fetch_signatures()
            if _WAV not in signatures and _DEFAULT not in signatures:
                raise RequestError(
                    f"{self._address}: the model has neither {_WAV} nor {_DEFAULT}, but "
                    f"{', '.join(sorted(signatures)) or 'no signature'}; name one with --signature"
                )
            self._signature = _WAV if _WAV in signatures else _DEFAULT
        if self._signature != _WAV and self._sample_rate_hz is None:
            raise RequestError(
                f"{self._address}: the signature {self._signature} takes a waveform; say at which "
                "rate with --sample-rate HZ"
            )
        return self._signature

    def _find_labels(self, num_classes: int) -> list[str]:
        if self._label_names is None:
            self._label_names = self._ask_for_labels()
        if not self._label_names:
            return [f"class {index}" for index in range(num_classes)]
        if len(self._label_names) != num_classes:
            raise RequestError(
                f"{self._address}: {len(self._label_names)} labels do not fit {num_classes} classes"
            )
        return self._label_names

    def _ask_for_labels(self) -> list[str]:
        """Labels in the order of the classes; none if the model cannot tell them."""
        signature = self.fetch_signatures().get(_CLASSIFY, {})
        if signature.get("method_name") != _CLASSIFY_METHOD:
            return []
        # 0.0 and not 0: Serving makes an integer feature of whole numbers.
        request = {"signature_name": _CLASSIFY, "examples": [{"waveform": [0.0]}]}
        try:
            (result,) = self._ask("POST", ":classify", request)["results"]
            return [str(label) for label, _ in result]
        except (RequestError, KeyError, TypeError, ValueError):  # another kind of classify
            return []

    def _ask(self, method: str, suffix: str, value: Any = None) -> Any:
        """Send a request, again while the server is busy, and read its answer."""
        body = None if value is None else json.dumps(value).encode()
        for attempt in range(self._retries + 1):
            is_last = attempt == self._retries
            try:
                status, headers, content = self._send(method, self._path + suffix, body)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                # The server has closed a connection that it had kept open, or is being restarted.
                self.close()
                if is_last:
                    raise ServerError(f"{self._address}: the connection broke ({error})") from None
                wait_s = 0.0 if attempt == 0 else _backoff_s(attempt)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise ServerError(f"{self._address}: no answer ({_reason(error)})") from None
            else:
                if status != 503 or is_last:
                    return self._read_answer(status, content, suffix)
                wait_s = _read_retry_after(headers.get("retry-after"), attempt)
            self._sleep(wait_s)
        raise AssertionError("unreachable")

    def _send(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
            self._connection = kind(self._place, timeout=self._timeout_s)
        headers = {**self._headers, "Content-Type": "application/json"}
        self._connection.request(method, path, body, headers if body is not None else self._headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        return response.status, {key.lower(): text for key, text in response.getheaders()}, content

    def _read_answer(self, status: int, content: bytes, suffix: str) -> Any:
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if status == 200 and answer is not None:
            return answer
        said = answer.get("error") if isinstance(answer, dict) else None
        problem = f"{self._address}{suffix}: the server answers {status}"
        problem += f" ({said})" if said else " and nothing that can be understood"
        if 400 <= status < 500:
            raise RequestError(problem)
        raise ServerError(problem)


def _parse_url(url: str) -> tuple[str, bool, str]:
    """Host with port, whether it is TLS, and the path without a slash at its end.

    >>> _parse_url("http://localhost:8501/")
    ('localhost:8501', False, '')
    """
    parts = urllib.parse.urlsplit(url)
    try:
        is_right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or parts.query or parts.fragment or "@" in parts.netloc:
        raise RequestError(f"{url}: is no address of a server; write http://HOST:PORT")
    return parts.netloc, parts.scheme == "https", parts.path.rstrip("/")


def _model_path(prefix: str, model: str) -> str:
    return f"{prefix}/v1/models/{urllib.parse.quote(model, safe='')}"


def _read_probabilities(answer: Any, path: str) -> list[float]:
    """The probabilities of the one instance: the output of that name, or the only output."""
    try:
        (prediction,) = answer["predictions"]
        values = prediction["probabilities"] if isinstance(prediction, dict) else prediction
        return [float(value) for value in values]
    except (KeyError, TypeError, ValueError):
        raise RequestError(
            f"{path}: the signature answers without `probabilities`; name another with --signature"
        ) from None


def _read_retry_after(text: str | None, attempt: int) -> float:
    """Seconds to wait: what the server says, else longer each time."""
    if text is not None and text.strip().isdecimal():
        return min(float(text), _LONGEST_WAIT_S)
    return _backoff_s(attempt)


def _backoff_s(attempt: int) -> float:
    """From half to all of 0.5, 1, 2 … s, so that clients do not come back all at once."""
    return min(0.5 * 2.0**attempt, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out; see --timeout"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client",
        description="Name the sounds in files with a model served by TensorFlow Serving or by "
        "`python -m serving`. Of a file longer than the model's clips the model hears what it was "
        "exported to hear, as a rule the start. "
        f"A bearer token is read from ${TOKEN_VARIABLE}.",
        epilog="Exit codes: 0 done, 1 the server cannot be reached or fails, 2 a wrong request or "
        "file (the other files are named all the same).",
    )
    add = parser.add_argument
    add("url", metavar="URL", help="http://HOST:PORT, or with /v1/models/NAME behind it")
    add("files", nargs="+", metavar="FILE", help="sound files")
    add("--model", default="default", metavar="NAME", help="(default)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, metavar="N", help="of the model (the newest)")
    which.add_argument("--label", metavar="LABEL", help="of the model's version, such as stable")
    add("--signature", metavar="NAME", help="wav_bytes, or one that takes waveforms (chosen)")
    add("--sample-rate", type=_positive(int), metavar="HZ", help="of the model's waveforms")
    add("--labels", metavar="FILE", help="names of the classes, one a line (asked from the model)")
    add("--top-k", type=_positive(int), default=5, metavar="K", help="classes to show (5)")
    add("--timeout", type=_positive(float), default=30.0, metavar="S", help="for an answer (30)")
    add("--retries", type=int, default=5, metavar="N", help="while the server is busy (5)")
    add("--json", action="store_true", help="one JSON object a file")
    return parser


def _positive(kind: type[int] | type[float]) -> Callable[[str], Any]:
    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
        return value

    return convert


def _run(arguments: argparse.Namespace) -> int:
    code = EXIT_DONE
    with ServingClient(
        arguments.url,
        arguments.model,
        version=arguments.version,
        label=arguments.label,
        signature=arguments.signature,
        sample_rate_hz=arguments.sample_rate,
        label_names=_read_labels(arguments.labels),
        timeout_s=arguments.timeout,
        retries=max(0, arguments.retries),
        token=os.environ.get(TOKEN_VARIABLE),
    ) as client:
        client.choose_signature()
        for path in arguments.files:
            try:
                scores = client.classify_file(path)
            except RequestError as error:
                print_problems(error.problems)
                code = EXIT_BAD_REQUEST
                continue
            print(_format(path, scores[: arguments.top_k], arguments.json), flush=True)
    return code


def _read_labels(file: str | None) -> list[str] | None:
    if file is None:
        return None
    try:
        return Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--labels {file}: cannot be read ({error})") from None


def _format(path: str, scores: Sequence[ClassScore], as_json: bool) -> str:
    if as_json:
        labels = [dataclasses.asdict(score) for score in scores]
        return json.dumps({"file": path, "labels": labels}, ensure_ascii=False)
    return f"{path}: " + ", ".join(f"{score.label} {score.probability:.3f}" for score in scores)


def main(argv: Sequence[str] | None = None) -> int:
    """Name sounds; see ``build_parser`` for the exit codes."""
    return run_command(_run, build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
