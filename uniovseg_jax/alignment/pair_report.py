"""One HTML file about a pair store, with everything that it needs inside."""

import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from uniovseg_jax import html
from uniovseg_jax.alignment.inspection import EntityRow, Example, Inspection
from uniovseg_jax.alignment.pairs import Pair
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.captions.record import Tool
from uniovseg_jax.files import write_text_whole
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.visualize import outline_mask

_CELL = 200
_NUM_BINS = 40
_MAX_CAPTION = 600

# Behind "#" the address may hold what to look for.
_SCRIPT = """
const field = document.getElementById("search");
const found = document.getElementById("found");
function search() {
  const words = field.value.trim().toLowerCase().split(/\\s+/).filter(Boolean);
  let entities = 0, pictures = 0;
  for (const node of document.querySelectorAll("#entities :is(figure, tbody tr)")) {
    const picture = node.querySelector("img");
    const entity = (picture ? picture.alt : node.cells[0].textContent).toLowerCase();
    node.hidden = !words.every(word => entity.includes(word));
    if (!node.hidden) picture ? pictures++ : entities++;
  }
  found.textContent = `${entities} entities, ${pictures} pictures`;
}
field.addEventListener("input", search);
try {
  field.value = decodeURIComponent(location.hash.slice(1));
} catch {
  field.value = location.hash.slice(1);
}
search();
"""


def write_pair_report(
    store: PairStore,
    inspection: Inspection,
    path: str | os.PathLike[str],
) -> pathlib.Path:
    """Writes the report.

    Args:
      store: That was inspected.
      inspection: What to show.
      path: Of the file.

    Returns:
      The path.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = html.page("Pairs of masks and entities", _body(store, inspection), _SCRIPT)
    write_text_whole(path, page)
    return path


def _body(store: PairStore, inspection: Inspection) -> list[str]:
    counts, settings = store.manifest["counts"], store.settings
    scales = settings["align_scales"]
    confident = len(inspection.confident_margins)
    entities = list(inspection.entities.items())
    shown = [(name, row) for name, row in entities if row.examples]
    body = [
        "<h1>Pairs of masks and entities</h1>",
        html.paragraph(
            f"{counts['pairs']:,} pairs of {counts['regions']:,} masks and {counts['entities']:,} "
            f"entities in {counts['images']:,} images; {confident:,} of them are trained on. "
            f"{inspection.num_flips:,} would be other pairs at one of the scales alone."
        ),
        html.paragraph(
            f"Cost {settings['config']['cost']}, mean over the scales "
            f"{', '.join(map(str, scales))} px. Source: {json.dumps(settings['source'])}.",
            note=True,
        ),
        "<h2>Margins</h2>",
        html.paragraph(
            "How much dearer the nearest alternative of a pair is: another entity for its mask or "
            "another mask for its entity. Below zero the joint assignment took something else than "
            "the best for one of the two."
        ),
        _histogram(inspection),
    ]
    for title, words, examples in (
        ("Best pairs", "The lowest costs.", inspection.best),
        ("Worst pairs", "The highest costs.", inspection.worst),
        ("Least sure pairs", "The smallest margins.", inspection.unsure),
        (
            "Pairs that flip between scales",
            "At one of the scales alone the entity would have another mask; the smallest margins.",
            inspection.flipping,
        ),
    ):
        if examples:
            cards = [_card(example, scales) for example in examples]
            body += [f"<h2>{title}</h2>", html.paragraph(words, note=True), html.grid(cards, _CELL)]
    cards = [_card(example, scales) for _, row in shown for example in row.examples]
    body += [
        "<h2>By entity</h2>",
        html.paragraph(
            f"All {len(entities):,} entities, with the first pairs of the {len(shown):,} most "
            "frequent."
        ),
        '<p><input type="search" id="search" placeholder="Search entities, such as: red ball"> '
        '<span class="note" id="found"></span></p>',
        '<section id="entities">',
        html.grid(cards, _CELL),
        _entity_table(entities),
        "</section>",
    ]
    return body


def _histogram(inspection: Inspection) -> str:
    margins = inspection.margins
    finite = margins[np.isfinite(margins)]
    if not finite.size:
        return html.paragraph("No pair has an alternative.", note=True)
    low, high = np.quantile(finite, [0.001, 0.999])
    # Bins of a round width, one of whose edges is zero.
    width = _round_up((high - low) / _NUM_BINS or 0.01)
    edges = width * np.arange(np.floor(low / width), np.ceil(high / width) + 1)
    if len(edges) < 2:
        edges = np.array([low, low + width])

    def count(values: np.ndarray) -> np.ndarray:
        return np.histogram(values[np.isfinite(values)].clip(edges[0], edges[-1]), edges)[0]

    trained = count(inspection.confident_margins)
    series = {"trained on": trained.tolist(), "left out": (count(margins) - trained).tolist()}
    return html.bar_chart(edges.tolist(), series, "margin", "pairs")


def _round_up(value: float) -> float:
    """Returns the next number of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def _entity_table(rows: Sequence[tuple[str, EntityRow]]) -> str:
    cells = [
        (
            name,
            row.count,
            row.confident,
            f"{row.cost / row.count:.3f}",
            f"{row.margin / row.finite:.3f}" if row.finite else "",
            f"{100 * row.flips / row.count:.0f} %",
        )
        for name, row in rows
    ]
    return html.table(("entity", "pairs", "trained on", "mean cost", "mean margin", "flip"), cells)


def _card(example: Example, scales: Sequence[int]) -> str:
    pair = example.pair
    with Image.open(io.BytesIO(example.preview)) as preview:
        picture = np.asarray(preview.convert("RGB"))
    mask = _decode(pair.mask, picture)
    other = None if pair.other_mask is None else _decode(pair.other_mask, picture)
    drawn = outline_mask(picture, mask, other)
    return html.figure(drawn, _caption(pair, example.is_confident, scales), pair.entity, quality=75)


def _decode(mask: dict[str, Any], picture: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Returns a mask at the size of a picture."""
    return np.asarray(
        Image.fromarray(rle_decode(mask)).resize((picture.shape[1], picture.shape[0]))
    )


def _caption(pair: Pair, is_confident: bool, scales: Sequence[int]) -> str:
    per_scale = ", ".join(
        f"{cost:.3f} at {side}{' (another mask)' if flips else ''}"
        for cost, side, flips in zip(pair.cost_per_scale, scales, pair.flips, strict=True)
    )
    lines = [f"<b>{html.text(pair.entity)}</b> {pair.cost:.3f}, margin {pair.margin:.3f}"]
    if not is_confident:
        lines.append("left out")
    if pair.other_entity is not None:
        lines.append(f"or {html.text(pair.other_entity)} {pair.other_entity_cost:.3f}")
    if pair.other_region is not None:
        blue = "" if pair.other_mask is None else ", blue"
        lines.append(f"or mask {pair.other_region} {pair.other_region_cost:.3f}{blue}")
    caption = pair.caption
    details = [
        f"Image {caption.id}, mask {pair.region}",
        f"Costs: {per_scale}",
        f"Before: {' / '.join(caption.caption_raw)[:_MAX_CAPTION]}",
        f"After: {(caption.caption or '')[:_MAX_CAPTION]}",
        _made_by("Refined", caption.refiner),
        _made_by("Parsed", caption.parser),
    ]
    paragraphs = "".join(f"<p>{html.text(line)}</p>" for line in details if line)
    return (
        "<br>".join(lines) + f"<details><summary>Where it is from</summary>{paragraphs}</details>"
    )


def _made_by(done: str, tool: Tool | None) -> str:
    if tool is None:
        return ""
    model = f", model {tool.model}" if tool.model else ""
    prompt = f", prompt {tool.prompt_hash}" if tool.prompt_hash else ""
    return f"{done} by {tool.name}{model}{prompt}"
