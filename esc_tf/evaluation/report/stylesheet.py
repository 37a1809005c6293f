"""How a report looks: one column that grows into several, light or dark as the reader has it."""

from __future__ import annotations

# The series are Okabe and Ito's colours (2008), darkened for white paper; they stay apart for
# any colour vision.
STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --card: #f6f7f9; --line: #d5d9de; --ink: #16191d; --muted: #5b636d;
  --grid: #d5d9de; --accent: #0b5cad; --notice: #fff4d6; --notice-line: #b98900;
  --series-1: #0072b2; --series-2: #d55e00; --series-3: #00835f; --series-4: #a8478a;
  --series-5: #7a6200; --bar: #0072b2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1d2126; --line: #363c44; --ink: #e8eaed; --muted: #a3abb5;
    --grid: #363c44; --accent: #7db8f5; --notice: #33290c; --notice-line: #e0b33c;
    --series-1: #56b4e9; --series-2: #e69f00; --series-3: #2cc295; --series-4: #e29ac4;
    --series-5: #f0e442; --bar: #56b4e9;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem clamp(0.8rem, 3vw, 2rem) 4rem; max-width: 78rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: break-word;
}
header p { margin: 0.2rem 0; color: var(--muted); max-width: 48rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 {
  font-size: 1.3rem; margin: 2.8rem 0 0.6rem; padding-top: 0.8rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.5rem; }
section > p { max-width: 48rem; }
a { color: var(--accent); }
nav { margin: 1rem 0; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.4rem; margin: 0; padding: 0; list-style: none; }
nav a {
  display: block; padding: 0.25rem 0.7rem; border: 1px solid var(--line); border-radius: 1rem;
  font-size: 0.88rem; text-decoration: none;
}
nav a:hover { background: var(--card); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.headline {
  display: grid; gap: 0.6rem; margin: 1.2rem 0 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
}
.headline div {
  background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem;
  padding: 0.6rem 0.8rem;
}
.headline dt { color: var(--muted); font-size: 0.82rem; }
.headline dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.notice {
  background: var(--notice); border-left: 4px solid var(--notice-line); border-radius: 0.25rem;
  padding: 0.6rem 0.9rem; max-width: 60rem;
}
.grid, .small-grid, .cards, .maps { display: grid; gap: 1rem; align-items: start; }
.grid { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.small-grid { grid-template-columns: repeat(auto-fill, minmax(min(100%, 10rem), 1fr)); }
.maps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.split { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.split > * { flex: 0 1 auto; min-width: 0; max-width: 100%; }
.split > .prose { flex: 1 1 20rem; }
figure { margin: 0; min-width: 0; }
figcaption { color: var(--muted); font-size: 0.88rem; line-height: 1.4; margin-top: 0.3rem; }
figcaption strong { color: var(--ink); font-weight: 600; }
.grid + .grid { margin-top: 1.2rem; }
.split > figure { max-width: min(100%, 60rem); }
.split figcaption { max-width: 32rem; }
svg { display: block; max-width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { white-space: pre; }
svg image { image-rendering: pixelated; }
.plot.wide { overflow-x: auto; }
.plot.wide svg { max-width: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: 0.88rem; padding: 0.3rem 0; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid var(--muted); font-weight: 600; }
tbody tr { border-bottom: 1px solid var(--line); }
tbody th { font-weight: 500; }
table.numbers th:not(:first-child), table.numbers td { text-align: right; padding: 0.25rem 0.7rem; }
table.numbers td, tbody th { white-space: nowrap; }
table.numbers th:last-child, table.numbers td:last-child { padding-right: 0.2rem; }
table.facts td { overflow-wrap: anywhere; min-width: 12rem; }
table.facts th { white-space: nowrap; }
.best { font-weight: 700; }
abbr { text-decoration: none; color: var(--muted); }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.8rem;
  overflow-x: auto; font-size: 0.82rem; line-height: 1.45;
}
.cards article {
  background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.8rem;
  min-width: 0;
}
.cards h3 { margin: 0 0 0.4rem; font-size: 1rem; line-height: 1.35; }
.cards h3 span { color: var(--muted); font-weight: 400; }
.cards p { margin: 0.3rem 0; font-size: 0.85rem; color: var(--muted); }
.cards ol { margin: 0.5rem 0 0; padding: 0; list-style: none; font-size: 0.88rem; }
.cards li {
  display: grid; grid-template-columns: 1fr 4rem 3.6rem; gap: 0.5rem; align-items: center;
}
.cards li .value { text-align: right; font-variant-numeric: tabular-nums; }
.meter { display: block; height: 0.5rem; border-radius: 0.25rem; background: var(--line); }
.meter span { display: block; height: 100%; border-radius: 0.25rem; background: var(--bar); }
img.mel { display: block; width: 100%; height: 8rem; border-radius: 0.25rem; }
img.figure { display: block; max-width: 100%; height: auto; border-radius: 0.25rem; }
img.map { display: block; width: 100%; image-rendering: pixelated; }
audio { display: block; width: 100%; max-width: 26rem; margin: 0.5rem 0; height: 2.4rem; }
footer { margin-top: 3rem; color: var(--muted); font-size: 0.85rem; }
@media print { nav, audio { display: none; } details > * { display: block; } }
"""
