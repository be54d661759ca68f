"""The files that an evaluation leaves: results.json, and the same as a table to read."""

import json
import math
import pathlib
from typing import Any

import numpy as np

from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.paper import paper_score
from uniovseg_jax.files import write_whole

RESULTS_FILE, TABLE_FILE = "results.json", "results.md"


def write_results(
    document: dict[str, Any], classes: ClassList | None, folder: pathlib.Path
) -> None:
    """Writes both files; scores become percent, and numbers that do not exist null.

    Args:
      document: With `scores` as fractions; changed in place.
      classes: Whose indices `per_class` is kept by; None if there are only masks.
      folder: Of the run.
    """
    for scores in document["scores"].values():
        if classes is not None:
            columns = scores.pop("per_class")
            scores["per_class"] = [
                {"index": index, "id": info.id, "name": info.name}
                | {name: _percent(values[index]) for name, values in columns.items()}
                for index, info in enumerate(classes.classes)
            ]
    document["scores"] = _finite(document["scores"])
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_whole(folder / RESULTS_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    table = make_table(document)
    write_whole(folder / TABLE_FILE, lambda path: path.write_text(table, encoding="utf-8"))


def flat_scores(document: dict[str, Any]) -> dict[str, float | None]:
    """Returns the scores of a document by dotted names, such as `panoptic.pq`, without classes."""
    flat = {}
    for task, scores in document["scores"].items():
        for group, values in scores.items():
            if group == "per_class":
                continue
            prefix = task if group == "all" else f"{task}.{group}"
            flat |= {f"{prefix}.{name}": value for name, value in values.items()}
    return flat


def make_table(document: dict[str, Any]) -> str:
    """Returns the readable report: every score beside the paper's."""
    settings = document["settings"]
    lines = [
        f"# {document['benchmark']}",
        "",
        f"{document['num_images']} images{' (limited)' if document['limited'] else ''}, protocol "
        f"`{settings['config']['protocol']}`, {document['date']}.",
        "",
        "| score | here | paper |",
        "| --- | ---: | ---: |",
    ]
    for name, value in flat_scores(document).items():
        paper = paper_score(document["benchmark"], name)
        shown = "" if paper is None else f"{paper:.1f}"
        lines.append(f"| {name} | {_show(value)} | {shown} |")
    seconds = ", ".join(
        f"{name} {value:.3f}" for name, value in document["seconds_per_image"].items()
    )
    lines += ["", f"Median seconds per image: {seconds}."]
    lines += ["", "Settings:", "", "```", json.dumps(settings, indent=1), "```"]
    lines += [f"\nNot verified: {sentence}" for sentence in document["unverified"]]
    return "\n".join(lines) + "\n"


def _show(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _finite(scores: Any) -> Any:
    """Makes percent of fractions outside of `per_class`, which has them, and null of NaN."""
    if isinstance(scores, dict):
        return {
            name: value if name == "per_class" else _finite(value) for name, value in scores.items()
        }
    return _percent(scores) if isinstance(scores, float) else scores


def _percent(value: Any) -> float | None:
    number = 100.0 * float(np.asarray(value))
    return number if math.isfinite(number) else None
