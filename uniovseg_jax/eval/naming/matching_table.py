"""The readable report of a matching accuracy."""

import json
import math
from typing import Any

from uniovseg_jax.eval.result_files import SETTINGS_LINE


def make_matching_table(document: dict[str, Any]) -> str:
    """Returns the readable report: every accuracy beside the paper's."""
    settings, masks = document["settings"], document["masks"]
    counts = ", ".join(f"{count} {name}" for name, count in masks.items())
    lines = [
        f"# Matching accuracy on {document['benchmark']}",
        "",
        f"{document['num_images']} images{' (limited)' if document['limited'] else ''}, masks of "
        f"the {settings['truth']} truth: {counts}. Pooling `{settings['pooling']}`, mean of "
        f"{settings['average']}, templates `{settings['templates']}`, {document['date']}.",
        "",
        "Top-1 accuracy of true masks in percent; the paper's column is beside all masks.",
        "",
        "| input sizes | all | paper "
        + "".join(f"| {name} " for name in masks if name != "all")
        + "| mean over classes | s / image | paper |",
        "| --- |" + " ---: |" * (len(masks) + 4),
    ]
    for row in document["rows"]:
        paper = row["paper"] or {}
        cells = [
            sizes_text(row),
            _show(row["top1"]["all"], 2),
            _show(paper.get("top1"), 1),
            *(_show(row["top1"][name], 2) for name in masks if name != "all"),
            _show(row["class_mean"]["all"], 2),
            _show(row["seconds"], 3),
            _show(paper.get("seconds"), 2),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Seconds: trunk and pooling of 16 masks on {document['device']}, no reading."]
    lines += [f"\nNote: {sentence}" for sentence in document["unverified"]]
    lines += ["", SETTINGS_LINE, "", "```", json.dumps(settings, indent=1), "```"]
    return "\n".join(lines) + "\n"


def sizes_text(row: dict[str, Any]) -> str:
    """Returns the input sizes of a row in words."""
    return " + ".join(map(str, row["sizes"]))


def _show(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
