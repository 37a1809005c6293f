"""Chromium without a window, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_TIMEOUT_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-port=0",
)


class ScriptError(AssertionError):
    """JavaScript that the test ran has thrown."""


class Page:
    """One tab, and all that happened in it.

    Attributes:
        requests: address of every request that the tab made.
        complaints: uncaught exceptions, errors of the console, and what the policy forbade.
    """

    def __init__(self, connection: Any, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id
        self._ids = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and take note of the events before its answer."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        self._connection.send(json.dumps({**message, "sessionId": self._session_id}))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address in a window of that many CSS pixels, and wait until it is loaded."""
        self.resize(width, height, dark)
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Set size and colour scheme, without any motion."""
        mobile = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        self.call("Emulation.setEmulatedMedia", features=features)

    def run(self, script: str) -> Any:
        """The value of an expression; of a promise, what it comes to."""
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise ScriptError(json.dumps(answer["exceptionDetails"])[:1000])
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true, looked at once a frame."""
        limit = int(1000 * _TIMEOUT_S)
        script = (
            f"new Promise((resolve, reject) => {{ const end = Date.now() + {limit};"
            f"const look = () => {{ if ({condition}) resolve(true);"
            "else if (Date.now() > end) reject(new Error('waited too long'));"
            "else setTimeout(look, 20); }; look(); })"
        )
        try:
            self.run(script)
        except ScriptError as error:
            shown = self.run("document.body.innerText")
            raise AssertionError(f"{condition}: {error}\n{shown}\n{self.complaints}") from None

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file as in the dialogue of an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, such as ``Tab``, ``Enter`` or ``ArrowRight``."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40, "Home": 36}
        text = {"Enter": "\r", " ": " "}.get(key)
        for _ in range(times):
            key_down: dict[str, Any] = {"type": "keyDown", "key": key, "code": key}
            if text:
                key_down["text"] = text
            self.call("Input.dispatchKeyEvent", windowsVirtualKeyCode=codes[key], **key_down)
            self.call(
                "Input.dispatchKeyEvent",
                type="keyUp",
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
            )

    def accessibility_tree(self) -> list[dict[str, Any]]:
        """What a screen reader gets: role, name and properties of everything that it is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        answer = json.loads(self._connection.recv(timeout=_TIMEOUT_S + 10))
        parameters = answer.get("params", {})
        method = answer.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"])[:1000])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(
                f"{parameters['entry']['text']} {parameters['entry'].get('url')}"
            )
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(parameters["args"])[:1000])
        return answer


@contextlib.contextmanager
def open_browser(profile: Path, flags: Sequence[str] = ()) -> Iterator[Page]:
    """Start Chromium with a new profile; skip the test, with the reason, where there is none."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        raise unittest.SkipTest("needs chromium (on Debian: apt install chromium)")
    try:
        from websockets.sync.client import connect
    except ImportError:
        raise unittest.SkipTest("needs the package websockets") from None
    process = subprocess.Popen(
        [binary, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        address = _read_address(process)
        with connect(address, max_size=None, open_timeout=_TIMEOUT_S) as connection:
            yield _attach(connection)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _read_address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        found = re.search(r"DevTools listening on (ws://\S+)", line)
        if found:
            return found[1]
    raise AssertionError(f"chromium does not start:\n{''.join(lines)}")


def _attach(connection: Any) -> Page:
    def call(method: str, **parameters: Any) -> dict[str, Any]:
        connection.send(json.dumps({"id": 0, "method": method, "params": parameters}))
        while True:
            answer = json.loads(connection.recv(timeout=_TIMEOUT_S))
            if answer.get("id") == 0:
                return answer["result"]

    target = call("Target.createTarget", url="about:blank")["targetId"]
    session = call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    return Page(connection, session)
