"""Pieces of HTML. Text is escaped here and nowhere else; what is HTML already has type ``Html``."""

from __future__ import annotations

import html as escaping
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Cell = Any


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """One section of a page.

    Attributes:
        anchor: the name in the page's address, unique.
        title: the heading.
        body: what stands below it.
    """

    anchor: str
    title: str
    body: Html


def escape(content: object) -> Html:
    """Text as HTML; HTML as it is."""
    return content if isinstance(content, Html) else Html(escaping.escape(str(content)))


def join(parts: Iterable[object]) -> Html:
    """All parts in a row."""
    return Html("\n".join(escape(part) for part in parts))


def inline(*parts: object) -> Html:
    """All parts in a row, with nothing between them."""
    return Html("".join(escape(part) for part in parts))


def element(tag: str, *content: object, **attributes: object) -> Html:
    """An element; ``class_`` and ``for_`` lose their underscore, other underscores become hyphens.

    An attribute of None or False is left out, one of True has no value.

    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    words = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{escaping.escape(str(value))}"')
    return Html(f"<{' '.join(words)}>{inline(*content)}</{tag}>")


def image(source: str, alt: str, class_: str | None = None) -> Html:
    """An image from a ``data:`` URI."""
    name = f' class="{class_}"' if class_ else ""
    return Html(f'<img{name} src="{source}" alt="{escaping.escape(alt)}">')


def number(value: float | int | None, digits: int = 4) -> Html:
    """A number for readers, with all its digits for programs; a dash for None.

    >>> number(0.98765432, 2)
    '<data value="0.98765432">0.99</data>'
    """
    if value is None:
        return element("abbr", "–", title="not defined")
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"
    return element("data", shown, value=repr(value))


def paragraph(*content: object) -> Html:
    """A paragraph."""
    return element("p", *content)


def heading(text: str) -> Html:
    """A heading inside a section."""
    return element("h3", text)


def figure(drawing: str, *, alt: str, caption: object, is_wide: bool = False) -> Html:
    """A drawing with its caption.

    Args:
        drawing: SVG or another piece of HTML.
        alt: what it shows, for those who do not see it.
        caption: stands below.
        is_wide: on a narrow screen, scroll instead of shrinking.
    """
    # Something that scrolls must be reachable with the keyboard.
    plot = element(
        "div",
        Html(drawing),
        class_="plot wide" if is_wide else "plot",
        role="img",
        aria_label=alt,
        tabindex="0" if is_wide else None,
    )
    return element("figure", plot, element("figcaption", caption))


def grid(parts: Iterable[Html], class_: str = "grid") -> Html:
    """Parts beside each other where there is room."""
    return element("div", join(parts), class_=class_)


def table(
    caption: str, header: Sequence[Cell], rows: Iterable[Sequence[Cell]], class_: str = "numbers"
) -> Html:
    """A table whose first column names its rows; it scrolls by itself where it is too wide.

    Args:
        caption: what it holds.
        header: names of the columns.
        rows: cells; the first of each row is its heading.
        class_: ``numbers`` aligns all other columns to the right, ``texts`` and ``facts`` to the
            left; ``facts`` gives them room.
    """
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = [
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in rows
    ]
    content = element(
        "table",
        element("caption", caption),
        element("thead", head) if header else "",
        element("tbody", join(body)),
        class_=class_,
    )
    return element("div", content, class_="scroll", tabindex="0", role="group", aria_label=caption)


def details(summary: str, content: Html) -> Html:
    """Content that is folded away at first."""
    return element("details", element("summary", summary), content)


def notice(content: object) -> Html:
    """Something that the reader must not overlook."""
    return element("p", content, class_="notice", role="note")
