"""The files that an evaluation leaves: results.json, and the same as a table to read."""

import json
import math
import pathlib
from typing import Any

from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.paper import paper_score
from uniovseg_jax.eval.run_settings import settings_in_words
from uniovseg_jax.files import make_folder, write_text_whole

RESULTS_FILE, TABLE_FILE = "results.json", "results.md"
# What kind of results are those of matching accuracy.
MATCHING = "matching_accuracy"
# What all settings follow in a table; what is above it is short enough to be printed.
SETTINGS_LINE = "Settings:"


def as_percent(document: dict[str, Any], classes: ClassList | None) -> dict[str, Any]:
    """Returns a document whose scores are percent, and null where they do not exist.

    Whole numbers, which count something, stay as they are.

    Args:
      document: With `scores` as fractions.
      classes: Whose indices `per_class` is kept by; it becomes a row for each. None if there are
        only masks.
    """
    found = {}
    for task, scores in document["scores"].items():
        found[task] = {name: _finite(values) for name, values in scores.items()}
        if classes is not None:
            columns = scores["per_class"]
            found[task]["per_class"] = [
                {"index": index, "id": info.id, "name": info.name}
                | {name: _finite(float(values[index])) for name, values in columns.items()}
                for index, info in enumerate(classes.classes)
            ]
    return {**document, "scores": found}


def write_results(document: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes both files, of scores in percent; the folder is made when needed."""
    make_folder(folder)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_text_whole(folder / RESULTS_FILE, text)
    table = make_table(document)
    write_text_whole(folder / TABLE_FILE, table)


def flat_scores(document: dict[str, Any]) -> dict[str, float | int | None]:
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
    if seconds := document["seconds_per_image"]:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())
        lines += ["", f"Median seconds per image: {shown}."]
    lines += ["", f"Protocol `{settings['config']['protocol']}`: {settings_in_words(document)}."]
    lines += [f"\nNote: {sentence}" for sentence in document["unverified"]]
    lines += ["", SETTINGS_LINE, "", "```", json.dumps(settings, indent=1), "```"]
    return "\n".join(lines) + "\n"


def without_settings(table: str) -> str:
    """Returns a table up to its settings, to be printed."""
    return table.partition(f"\n{SETTINGS_LINE}")[0]


def _show(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _finite(scores: Any) -> Any:
    """Makes percent of fractions, and null of NaN."""
    if isinstance(scores, dict):
        return {name: _finite(value) for name, value in scores.items()}
    if isinstance(scores, float):
        return 100.0 * scores if math.isfinite(scores) else None
    return scores
