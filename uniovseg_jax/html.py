"""A few pieces of HTML that need nothing from outside: text, tables, pictures, line charts."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_STYLE = """
:root { color-scheme: light; --ink: #1c1e21; --soft: #5f6670; --line: #dfe3e8; --mark: #f4f7fb; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 40px 24px 80px; color: var(--ink);
  background: #fff; font: 16px/1.55 Georgia, "Times New Roman", serif; }
h1, h2, h3, table, figcaption, .note, .key { font-family: system-ui, "Segoe UI", Helvetica, Arial,
  sans-serif; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 20px; margin: 48px 0 8px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 24px 0 6px; }
p { max-width: 74ch; margin: 8px 0; }
.note { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: 12px 0; }
th, td { padding: 5px 12px; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { padding-left: 0; }
th.text, td.text { text-align: left; }
tr.group td { color: var(--soft); font-size: 12px; padding-top: 12px; }
tr.strong td { background: var(--mark); font-weight: 600; }
.grid { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(var(--cell), 1fr)); }
figure { margin: 0; }
figure img { width: 100%; height: auto; display: block; border-radius: 3px; }
figcaption { font-size: 13px; color: var(--soft); padding-top: 4px; }
figcaption b { color: var(--ink); }
.right { color: #1c7a3d; } .part { color: #94660a; } .wrong { color: #b3261e; }
svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, Helvetica, Arial, sans-serif; fill: #5f6670; }
.key span { display: inline-block; width: 18px; border-top: 3px solid; vertical-align: middle;
  margin: 0 6px 0 0; }
.key { font-size: 13px; margin-right: 16px; }
input[type=search] { font: 15px system-ui, Helvetica, Arial, sans-serif; padding: 7px 10px;
  width: 100%; max-width: 420px; border: 1px solid #b9c0c8; border-radius: 4px; }
details { font-size: 12px; } details p { margin: 3px 0; font-size: 12px; }
[hidden] { display: none !important; }
@media print { body { max-width: none; padding: 0; } }
"""
_COLOURS = ("#2457a7", "#c2571a", "#2f8f5b", "#8a3ea8", "#7a7f87", "#b3261e")


def text(value: object) -> str:
    """Escapes text."""
    return html.escape(str(value))


def page(title: str, body: Sequence[str], script: str = "") -> str:
    """Returns a whole document, with a script of its own where something is to move."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + (f"\n<script>\n{script}</script>" if script else "")
        + "\n</body>\n</html>\n"
    )


def paragraph(words: str, note: bool = False) -> str:
    """Returns a paragraph of plain text."""
    opening = '<p class="note">' if note else "<p>"
    return f"{opening}{text(words)}</p>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    strong: Sequence[int] = (),
    groups: Sequence[int] = (),
    text_columns: int = 1,
) -> str:
    """Returns a table.

    Args:
      header: One title per column.
      rows: Cells.
      strong: Rows that stand out.
      groups: Rows that are titles of those below them.
      text_columns: Columns from the left that hold words; the others hold numbers.
    """
    lines = ['<div class="scroll"><table>', "<thead><tr>"]
    openings = ['<{} class="text">' if n < text_columns else "<{}>" for n in range(len(header))]
    lines += [
        f"{o.format('th')}{text(cell)}</th>" for o, cell in zip(openings, header, strict=True)
    ]
    lines.append("</tr></thead><tbody>")
    for index, row in enumerate(rows):
        cells = "".join(
            f"{o.format('td')}{text(cell)}</td>" for o, cell in zip(openings, row, strict=True)
        )
        kind = "strong" if index in strong else "group" if index in groups else ""
        opening = f'<tr class="{kind}">' if kind else "<tr>"
        lines.append(f"{opening}{cells}</tr>")
    lines.append("</tbody></table></div>")
    return "".join(lines)


def figure(image: UInt8[np.ndarray, "h w 3"], caption: str, alt: str, quality: int = 90) -> str:
    """Returns an embedded JPEG; `caption` is HTML, `alt` plain text."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{text(alt)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def grid(figures: Sequence[str], cell_px: int) -> str:
    """Lays figures out in as many columns of at least `cell_px` as there is room for."""
    return f'<div class="grid" style="--cell: {cell_px}px">{"".join(figures)}</div>'


def bar_chart(
    edges: Sequence[float], series: Mapping[str, Sequence[int]], x_label: str, y_label: str
) -> str:
    """Returns an SVG of a histogram whose series stand on top of each other, with a key.

    Args:
      edges: Of the bins, ascending, one more than there are bins.
      series: By name the count of every bin.
      x_label: Under the horizontal axis.
      y_label: Above the vertical axis.
    """
    left, top, width, height = 56.0, 24.0, 580.0, 190.0
    highest = max(1, *(sum(counts) for counts in zip(*series.values(), strict=True)))
    parts = [f'<svg viewBox="0 0 {left + width + 20:g} {top + height + 40:g}" role="img">']
    for share in (0.0, 0.5, 1.0):
        y = top + (1 - share) * height
        parts.append(
            f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#e6e9ed"/>'
            f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{share * highest:.0f}</text>'
        )
    step = width / (len(edges) - 1)
    floors = [0] * (len(edges) - 1)
    for index, counts in enumerate(series.values()):
        for place, count in enumerate(counts):
            tall = height * count / highest
            y = top + height * (1 - floors[place] / highest) - tall
            parts.append(
                f'<rect x="{left + place * step:.1f}" y="{y:.1f}" width="{step - 1:.1f}" '
                f'height="{tall:.1f}" fill="{_COLOURS[index % len(_COLOURS)]}"/>'
            )
            floors[place] += count
    # Around zero, where that is an edge.
    every = max(1, (len(edges) - 1) // 8)
    first = int(np.argmin(np.abs(edges))) % every
    for place in range(first, len(edges), every):
        parts.append(
            f'<text x="{left + place * step:.1f}" y="{top + height + 16}" text-anchor="middle">'
            f"{round(edges[place], 6):.3g}</text>"
        )
    parts.append(
        f'<text x="{left}" y="12">{text(y_label)}</text>'
        f'<text x="{left + width}" y="{top + height + 34}" text-anchor="end">{text(x_label)}</text>'
        "</svg>"
    )
    return "".join(parts) + _key(series)


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str
) -> str:
    """Returns an SVG of several curves with a key; values that are not finite are left out.

    Args:
      series: By name the x and y values.
      x_label: Under the horizontal axis.
      y_label: Above the vertical axis.
    """
    curves = {}
    for name, (xs, ys) in series.items():
        pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if np.isfinite(x) and np.isfinite(y)]
        if pairs:
            curves[name] = np.array(pairs, float)
    if not curves:
        return paragraph("Nothing was logged.", note=True)
    everything = np.concatenate(list(curves.values()))
    low, high = everything.min(axis=0), everything.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    left, top, width, height = 56.0, 24.0, 580.0, 190.0

    def place(points: np.ndarray) -> np.ndarray:
        unit = (points - low) / span
        return np.stack([left + unit[:, 0] * width, top + (1 - unit[:, 1]) * height], axis=1)

    parts = [f'<svg viewBox="0 0 {left + width + 20:g} {top + height + 40:g}" role="img">']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + share * width, top + (1 - share) * height
        parts.append(
            f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#e6e9ed"/>'
            f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{low[1] + share * span[1]:.3g}'
            f'</text><text x="{x}" y="{top + height + 16}" text-anchor="middle">'
            f"{low[0] + share * span[0]:.0f}</text>"
        )
    for index, points in enumerate(curves.values()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in place(points))
        colour = _COLOURS[index % len(_COLOURS)]
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
    parts.append(
        f'<text x="{left}" y="12">{text(y_label)}</text>'
        f'<text x="{left + width}" y="{top + height + 34}" text-anchor="end">{text(x_label)}</text>'
        "</svg>"
    )
    return "".join(parts) + _key(curves)


def _key(names: Iterable[str]) -> str:
    parts = ["<div>"]
    for index, name in enumerate(names):
        colour = _COLOURS[index % len(_COLOURS)]
        parts.append(
            f'<span class="key"><span style="border-color: {colour}"></span>{text(name)}</span>'
        )
    return "".join(parts) + "</div>"
