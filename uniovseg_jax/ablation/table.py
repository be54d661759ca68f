"""The ablation's tables in Markdown, with the spread over worlds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from uniovseg_jax.eval.scenes.scores import gap_closed

# What is an oracle, and what changes from one row to the next.
_TITLES = {
    "baseline": "baseline: frozen CLIP, no alignment",
    "raw_rules": "raw captions, rules",
    "refined_rules": "+ refined captions",
    "refined_oracle": "+ oracle parser",
    "multi_scale": "+ two scales",
    "rules_multi_scale": "refined, rules, two scales (no oracle)",
    "contrastive": "full, contrastive loss",
    "rematched": "full, matched once more with adapted embeddings",
    "paired_cosine": "ceiling: true names, cosine",
    "paired_contrastive": "ceiling: true names, contrastive",
}
_PAPER = ("baseline", "raw_rules", "refined_rules", "refined_oracle", "multi_scale")
_COLUMNS = ("miou", "pq", "miou_seen", "miou_unseen")

Report = dict[str, Any]


def format_tables(reports: Sequence[Report]) -> str:
    """Returns both tables.

    Args:
      reports: Of `run.run_ablation`, one per world.
    """
    names = list(reports[0]["rows"])
    order = [name for name in _TITLES if name in names] + [n for n in names if n not in _TITLES]
    lines = [
        "| row | mIoU | PQ | mIoU seen | mIoU unseen | mIoU seen over the row above | "
        "gap closed | pairs right | of those trained on |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(reports, name) for name in order]
    lines += [
        "",
        "| input sizes | top-1 of true masks | ms per image |",
        "| --- | --- | --- |",
    ]
    for place, row in enumerate(reports[0]["sizes"]):
        top1 = _spread(reports, lambda r, p=place: r["sizes"][p]["top1"])
        milliseconds = _spread(reports, lambda r, p=place: 1000 * r["sizes"][p]["seconds"])
        lines.append(f"| {' + '.join(map(str, row['sizes']))} | {top1} | {milliseconds} |")
    return "\n".join(lines) + "\n"


def _row(reports: Sequence[Report], name: str) -> str:
    cells = [_spread(reports, lambda r, c=c: _score(r, name, c)) for c in _COLUMNS]
    cells.append(_gain(reports, name))
    cells.append(_spread(reports, lambda r: _closed(r, name)))
    for kind in ("all", "trained"):
        cells.append(_spread(reports, lambda r, k=kind: r["rows"][name].get("matching", {}).get(k)))
    return f"| {_TITLES.get(name, name)} | " + " | ".join(cells) + " |"


def _score(report: Report, name: str, column: str) -> float:
    return report["rows"][name]["scores"]["predicted"][column]


def _gain(reports: Sequence[Report], name: str) -> str:
    """Returns what a row of the paper's table adds to the one above it."""
    if name not in _PAPER[1:]:
        return ""
    before = _PAPER[_PAPER.index(name) - 1]

    def gain(report: Report) -> float | None:
        if before not in report["rows"]:
            return None
        return _score(report, name, "miou_seen") - _score(report, before, "miou_seen")

    return _spread(reports, gain, sign=True)


def _closed(report: Report, name: str) -> float | None:
    if name == "baseline" or name.startswith("paired"):
        return None
    rows = ("baseline", name, f"paired_{report['rows'][name]['loss']}")
    if any(row not in report["rows"] for row in rows):
        return None
    return gap_closed(*(_score(report, row, "miou_seen") for row in rows))


def _spread(
    reports: Sequence[Report], value: Callable[[Report], float | None], sign: bool = False
) -> str:
    """Returns mean and deviation over worlds; nothing where a world has no value."""
    found = [value(report) for report in reports]
    numbers = [number for number in found if number is not None]
    if not numbers:
        return ""
    mean = f"{np.mean(numbers):{'+' if sign else ''}.1f}"
    if len(numbers) < len(found):
        mean += f" in {len(numbers)} of {len(found)}"
    return f"{mean} ({np.std(numbers, ddof=1):.1f})" if len(numbers) > 1 else mean
