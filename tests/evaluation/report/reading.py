"""Reads a report back: a parser that refuses broken HTML, and what the page is made of."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import soundfile
from PIL import Image

_VOID = {"br", "img", "meta", "link", "input", "hr"}
_SVG_VOID = {"use", "path", "image", "rect"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: (tag, attributes) in order.
        problems: elements that are not closed, or closed and never opened.
        text: all text outside style sheets.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.problems: list[str] = []
        self.data_values: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(source)
        self.close()
        self.problems += [f"{tag} is never closed" for tag in self._open]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self._text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> inside {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._text.append(data)

    def find(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def anchors(self) -> list[str]:
        """Names of the sections."""
        return [attributes["id"] for attributes in self.find("section")]

    @property
    def numbers(self) -> list[float]:
        """Every number with all its digits."""
        return [float(attributes["value"]) for attributes in self.find("data")]

    def find_references(self) -> list[str]:
        """Everything that a browser would load, follow or resolve."""
        found = re.findall(r"url\(([^)]*)\)", self.source)
        for _, attributes in self.elements:
            found += [attributes[key] for key in ("src", "href", "srcset") if key in attributes]
        return [reference.strip("\"'") for reference in found]


def decode_audio(uri: str) -> tuple[np.ndarray, int]:
    """The samples and the rate of a sound in a page."""
    return soundfile.read(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def decode_image(uri: str) -> np.ndarray:
    """The pixels ``(rows, columns, 4)`` of an image in a page."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
    return np.asarray(image.convert("RGBA"))


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two sounds of about the same length, at zero lag."""
    length = min(len(first), len(second))
    return float(np.corrcoef(first[:length], second[:length])[0, 1])
