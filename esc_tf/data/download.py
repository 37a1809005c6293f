"""One file over HTTP: resumed where it broke off, compared with its digest, there whole or not."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from esc_tf.errors import DownloadError

_BLOCK_BYTES = 1 << 18
_TIMEOUT_S = 60.0
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_GO_ON = "run the command again to go on from there"


class _Broken(Exception):
    """The connection broke; what has arrived is kept."""


def download_file(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    attempts: int = 5,
    pause_s: float = 2.0,
    progress: bool = True,
    report: Callable[[str], object] = print,
) -> None:
    """Fetch ``url`` into ``path``.

    Bytes gather in ``NAME.partial`` beside it. A broken connection is tried again, and a later call
    goes on where this one stopped, if the server still has the same file and can send a part of
    one; otherwise it starts anew.

    Args:
        url: http or https.
        path: where the file is put when it is whole.
        sha256: what the content must have; None: not compared.
        attempts: connections that bring nothing new before it gives up.
        pause_s: seconds before another connection.
        progress: whether to show a bar on a terminal.
        report: takes lines for the user.

    Raises:
        DownloadError: the address is of another kind, the server refuses or does not answer, the
            connection keeps breaking, the file has another digest (it is removed then).
        OSError: it cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: is no address of the form https://HOST/PATH; correct it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, notes = path.with_name(path.name + ".partial"), path.with_name(path.name + ".state")
    failures = 0
    while True:
        before = _size(partial)
        try:
            _continue_download(url, partial, notes, progress, report)
            break
        except _Broken as error:
            # A server that cannot resume makes every attempt start anew: no progress either.
            failures = failures + 1 if _size(partial) <= before or before == 0 else 1
            if failures >= attempts:
                kept = _size(partial)
                raise DownloadError(
                    f"{url}: the connection broke after {kept:,} bytes ({error}); {_GO_ON}"
                    if kept
                    else f"{url}: cannot be fetched ({error}); check the address and the network"
                ) from None
            report(f"the connection broke ({error}); trying again")
            time.sleep(pause_s)
    notes.unlink(missing_ok=True)
    if sha256 is not None:
        check_digest(partial, sha256, url)
    os.replace(partial, path)


def check_digest(path: Path, sha256: str, origin: str) -> None:
    """Compare a file with its digest, and remove it if that is another.

    Raises:
        DownloadError: it is; ``origin`` is named as the place that the file came from.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != sha256.lower():
        path.unlink()
        raise DownloadError(
            f"{origin}: has the SHA-256 digest {digest.hexdigest()}, not {sha256.lower()}; it was "
            "changed there or on the way, and what arrived has been removed"
        )


def _continue_download(
    url: str, partial: Path, notes: Path, progress: bool, report: Callable[[str], object]
) -> None:
    start, validator = _size(partial), _read_validator(notes, url)
    request = urllib.request.Request(url, headers={"User-Agent": "esc_tf"})
    if start and validator:
        request.add_header("Range", f"bytes={start}-")
        # Another file under the same address must not be appended to the beginning of this one.
        request.add_header("If-Range", validator)
    else:
        start = 0
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # all of it had arrived before
            partial.unlink()
            raise _Broken("there is no more of it to send, so it starts anew") from None
        if error.code >= 500:
            raise _Broken(f"the server answers {error.code} {error.reason}") from None
        raise DownloadError(
            f"{url}: the server answers {error.code} {error.reason}; check the address, or fetch "
            "the file by hand"
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise _Broken(str(reason) or type(error).__name__) from None
    with response:
        if response.status == http.client.PARTIAL_CONTENT:
            sent = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if sent is None or int(sent[1]) != start:
                partial.unlink()
                raise _Broken("the server sends another part than it was asked for")
            total = None if sent[3] == "*" else int(sent[3])
            report(f"going on after {start:,} bytes")
        else:
            if start:
                report("the server cannot go on, so it starts anew")
            start = 0
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        # A weak ETag does not promise the same bytes.
        if validator and not validator.startswith("W/"):
            notes.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        else:
            notes.unlink(missing_ok=True)
        _receive(response, partial, start, total, progress)


def _receive(
    response: http.client.HTTPResponse,
    partial: Path,
    start: int,
    total: int | None,
    progress: bool,
) -> None:
    bar = tqdm(
        total=total,
        initial=start,
        desc=partial.stem,
        unit="B",
        unit_scale=True,
        disable=not (progress and sys.stderr.isatty()),
    )
    with bar, partial.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        while True:
            try:
                block = response.read(_BLOCK_BYTES)
            except (http.client.HTTPException, OSError) as error:
                raise _Broken(str(error) or type(error).__name__) from None
            if not block:
                break
            file.write(block)
            bar.update(len(block))
        there = file.tell()
        file.flush()
        os.fsync(file.fileno())
    if total is not None and there < total:
        raise _Broken(f"{there:,} of {total:,} bytes arrived")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read_validator(notes: Path, url: str) -> str | None:
    """Return the validator of the file that a partial one is the beginning of."""
    try:
        content = json.loads(notes.read_text(encoding="utf-8"))
        return str(content["validator"]) if content["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
