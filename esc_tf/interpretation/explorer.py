"""The explorer: one HTML file in which a reading can be looked through and listened to.

It needs no other file and no network. Spectrograms, activations and patterns lie in it as compact
numbers; pictures, reconstructions and sounds are made of them in the browser, so that every feature
and set of features of every clip in it can be heard. ``explorer_page/sound.js`` does what
``listening.listen`` does; the tests hold them together.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from esc_tf import __version__
from esc_tf.evaluation.report.figures.drawing import SEQUENTIAL
from esc_tf.evaluation.report.markup import (
    Html,
    details,
    element,
    escape,
    join,
    number,
    paragraph,
    table,
)
from esc_tf.files import write_atomically
from esc_tf.interpretation.explorer_data import Block, Packing, order_clips
from esc_tf.interpretation.reading import FACTS_FILE, PLAIN_NMF, Reading

MAX_BYTES = 25_000_000
"""Of the whole page; clips are left out beyond it."""

METHOD_TITLES = {
    "nmf": "NMF, W alone learnt",
    "linear_no_bias_softplus": "linear, softplus",
    "mel_constrained_linear": "mel triangles",
    "mel_basis": "mel basis of Gaussians",
    PLAIN_NMF: "plain NMF, W and H learnt",
}
_CONTROLS = {
    "none": "as they are",
    "shuffled_time": "shuffled in time",
    "shuffled_clips": "of other clips",
}
_KINDS = {
    "log1p": "ln(1 + m) of mel magnitudes m",
    "magnitude": "mel magnitudes",
    "power": "mel powers",
}
_SCORES = {
    "error": "Error",
    "error_std": "Spread",
    "variance_explained": "Variance explained",
    "roughness": "Roughness of W",
    "sparsity": "Sparsity of W",
    "accuracy": "Accuracy",
    "eta_squared": "η²",
}
_BLOCK_KIND = "text/plain"
_PAGE = Path(__file__).parent / "explorer_page"
# In this order; each uses what those before it define.
_SCRIPTS = ("numbers.js", "sound.js", "drawing.js", "features.js", "players.js", "explorer.js")


def write_explorer(
    reading: Reading, path: Path, *, max_clips_per_class: int = 2, max_bytes: int = MAX_BYTES
) -> Path:
    """Write the page.

    Args:
        reading: what was read. Audio that is not there any more is left out, and named.
        path: the file, replaced if it is there.
        max_clips_per_class: see ``explorer_data.order_clips``.
        max_bytes: of the page. Clips are added while it has room, one at least.

    Returns:
        ``path``.

    Raises:
        RequestError: a file of the reading is missing or damaged.
        OSError: the page cannot be written.
    """
    rows = order_clips(reading.clips, max_clips_per_class) or [0]
    packing = Packing(reading, rows)
    blocks = [packing.pack_filters()]
    clips: list[dict[str, Any]] = []
    room = max_bytes - len(_render(reading, _describe(reading, packing, []), blocks).encode())
    for row in rows:
        block, facts = packing.pack_clip(row)
        described = {**facts, "block": block.key}
        room -= len(_hold(block.key, _BLOCK_KIND, block.text))
        room -= len(_encode_json(described).encode()) + 2  # comma and line feed
        if room < 0 and clips:
            break
        blocks.append(block)
        clips.append(described)
    clips.sort(key=lambda clip: (clip["true"], clip["id"]))
    page = _render(reading, _describe(reading, packing, clips), blocks)
    write_atomically(
        path,
        lambda file: file.write_text(page, encoding="utf-8"),
        must_survive_power_loss=False,
    )
    return path


def _describe(
    reading: Reading, packing: Packing, clips: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the page's scripts know beside the blocks."""
    front_end = reading.front_end
    colours = np.asarray(mpl.colormaps[SEQUENTIAL](np.linspace(0.0, 1.0, 256)))[:, :3]
    shown = ("statistic", "test", "classes", "effect", "adjusted_p", "consistent")
    return {
        "sample_rate_hz": reading.sample_rate_hz,
        "duration_s": reading.facts["audio"]["num_samples"] / reading.sample_rate_hz,
        "frequencies_hz": reading.frequencies_hz.tolist(),
        "frame_times_s": reading.frame_times_s.tolist(),
        "transform": {
            "n_fft": front_end.n_fft,
            "hop_length": front_end.hop_length,
            "is_centred": front_end.center,
        },
        "layers": packing.describe_layers(),
        "methods": list(reading.methods),
        "method_titles": METHOD_TITLES,
        "verdicts": dict(reading.verdicts),
        "discriminative": {
            layer: {key: found[key] for key in shown}
            for layer, found in reading.discriminative.items()
        },
        "clips": list(clips),
        "colours": np.round(255 * colours).astype(np.uint8).tobytes().hex(),
    }


def _render(reading: Reading, facts: Mapping[str, Any], blocks: Sequence[Block]) -> str:
    script = "\n".join(_read(name) for name in _SCRIPTS)
    parts = {
        "POLICY": _build_policy(script),
        "TITLE": escape(f"Hidden features of {Path(reading.model).name}"),
        "STYLE": _read("explorer.css"),
        "INTRODUCTION": _introduce(reading, facts),
        "SECTIONS": join([_show_scores(reading), _show_origin(reading, facts)]),
        "FOOTER": f"Written by esc_tf {__version__}.",
        "BLOCKS": join(
            [
                _hold("facts", "application/json", _encode_json(facts)),
                *(_hold(block.key, _BLOCK_KIND, block.text) for block in blocks),
            ]
        ),
        "SCRIPT": script,
    }
    page = _read("index.html")
    pieces = []
    # Not one replacement after the other: what is put in may hold a marker's name.
    for name in sorted(parts, key=lambda name: page.index(f"@{name}@")):
        before, page = page.split(f"@{name}@", 1)
        pieces += [before, parts[name]]
    return "".join([*pieces, page])


def _build_policy(script: str) -> str:
    """The browser itself sees to it that nothing is fetched and nothing else is run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src blob:; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _hold(key: str, kind: str, content: str) -> Html:
    """Data that no browser shows or runs."""
    return Html(f'<script type="{kind}" id="{key}">{content}</script>')


def _encode_json(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A class may be called </script>.
    return text.replace("<", "\\u003c")


def _introduce(reading: Reading, facts: Mapping[str, Any]) -> Html:
    clips = facts["clips"]
    layers = ", ".join(f"{name}" for name in reading.layers)
    classes = len({clip["true"] for clip in clips})
    return join(
        [
            paragraph(
                element("strong", reading.model),
                f" hears {len(reading.clips)} clips, and hidden features of {layers} explain its "
                "spectrogram as V ≈ W H: H is how active each feature is over time, W the pattern "
                "over frequency that stands for it.",
            ),
            element(
                "p",
                f"This page holds {len(clips)} of the clips, of {classes} classes: of each class "
                "those that the model is surest of and its surest mistakes, as many as there is "
                "room for. All features of them can be heard.",
                class_="quiet",
            ),
        ]
    )


def _show_scores(reading: Reading) -> Html:
    """Verdicts and scores of all layers, for those who read no pictures, too."""
    header = ("Layer", "Method", "Activations", "Features", *_SCORES.values())
    rows = [
        (
            row["layer"],
            METHOD_TITLES.get(row["method"], row["method"]),
            "free" if row["method"] == PLAIN_NMF else _CONTROLS.get(row["control"], row["control"]),
            number(row["rank"]),
            *(number(row[key], 3) for key in _SCORES),
        )
        for row in reading.scores
    ]
    verdicts = [paragraph(text) for text in reading.verdicts.values()]
    explanation = (
        "Error is ‖V − W H‖ / ‖V‖ over all clips: 0 is perfect. Shuffled activations are the "
        "ceiling, what chance explains; spread is the standard deviation over shuffles. Plain NMF "
        "with as many components is the floor. Accuracy and η² say how well the features’ shares "
        "of a clip tell its class."
    )
    return _card(
        "scores",
        "Scores",
        join([*verdicts, table("Over all clips of the reading", header, rows),
              element("p", explanation, class_="quiet")]),
    )  # fmt: skip


def _show_origin(reading: Reading, facts: Mapping[str, Any]) -> Html:
    """Where the reading comes from: model, data, date, settings."""
    written = datetime.datetime.fromtimestamp(
        (reading.folder / FACTS_FILE).stat().st_mtime, datetime.timezone.utc
    )
    digest = reading.facts.get("model_digest")
    about = [
        ("Model", reading.model),
        *([("SHA-256 of its file", digest)] if digest else []),
        ("Read on", f"{written:%Y-%m-%d %H:%M} UTC"),
        ("Clips", f"{len(reading.clips)}, of folds "
                  f"{', '.join(map(str, sorted({clip.fold for clip in reading.clips})))}"),
        ("Rate", f"{reading.sample_rate_hz} Hz, {facts['duration_s']:g} s a clip"),
        ("Spectrogram", f"{_KINDS.get(reading.kind, reading.kind)}, {len(reading.frequencies_hz)} "
                        f"bands, {len(reading.frame_times_s)} frames"),
    ]  # fmt: skip
    groups = {
        "Settings of the reading": reading.settings,
        "Settings of the front end": reading.front_end.model_dump(mode="json"),
        "Versions of the software": reading.facts.get("versions", {}),
    }
    return _card(
        "origin",
        "Model, data and settings",
        join(
            [
                table("The reading", (), about, class_="facts"),
                *(
                    details(
                        summary,
                        table(summary, (), [(key, _show(value)) for key, value in group.items()],
                              class_="facts"),
                    )
                    for summary, group in groups.items()
                    if group
                ),
            ]
        ),
    )  # fmt: skip


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _card(key: str, title: str, content: Html) -> Html:
    return element(
        "section",
        element("h2", title, id=f"{key}-title"),
        content,
        class_="card",
        aria_labelledby=f"{key}-title",
    )
