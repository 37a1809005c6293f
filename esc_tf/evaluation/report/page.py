"""A whole page from its sections: one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence

from esc_tf import __version__
from esc_tf.evaluation.report.markup import Html, Section, element, join
from esc_tf.evaluation.report.stylesheet import STYLE

# The browser itself holds the page to what it promises: nothing is fetched, nothing is run.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def render_page(title: str, introduction: Html, sections: Sequence[Section]) -> str:
    """Put a page together.

    Args:
        title: of the page, in its heading and in the browser's tab.
        introduction: what stands between the heading and the first section.
        sections: in order; each gets an entry in the table of contents.
    """
    contents = [
        element("li", element("a", section.title, href=f"#{section.anchor}"))
        for section in sections
    ]
    body = [
        element("header", element("h1", title), introduction),
        element("nav", element("ul", join(contents)), aria_label="Sections"),
        element(
            "main",
            join(
                element(
                    "section",
                    element("h2", section.title, id=f"{section.anchor}-title"),
                    section.body,
                    id=section.anchor,
                    aria_labelledby=f"{section.anchor}-title",
                )
                for section in sections
            ),
        ),
        element("footer", f"Written by esc_tf {__version__}."),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            element("title", title),
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )
