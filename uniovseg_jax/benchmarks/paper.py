"""What the paper's tables say, beside which results are put.

Source: arXiv 2402.08960, tables 1, 2 and 4; the rows of other methods as printed there.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any

_FILE = pathlib.Path(__file__).resolve().parent / "paper_tables.json"
OURS = "Uni-OVSeg"


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """One method of a table.

    Attributes:
      table: Number of the table.
      group: `fully_supervised`, `weakly_supervised` or `unsupervised`.
      method: Its name.
      training_data: What it has seen.
      scores: Percent, by benchmark and metric, such as `panoptic.pq`.
    """

    table: str
    group: str
    method: str
    training_data: str
    scores: dict[str, dict[str, float]]


@functools.cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Returns the rows of tables 1 and 2, and of table 4 what only it has."""
    return tuple(PaperRow(**row) for row in _read()["methods"])


def paper_score(benchmark: str, metric: str) -> float | None:
    """Returns what the paper reports for its own method, percent; None if it does not."""
    for row in paper_rows():
        if row.method == OURS and metric in row.scores.get(benchmark, {}):
            return row.scores[benchmark][metric]
    return None


def paper_matching_accuracy(benchmark: str) -> dict[tuple[int, ...], tuple[float, float]]:
    """Returns top-1 accuracy in percent and seconds by input sizes; empty if not reported."""
    return {
        tuple(row["sizes"]): (row[benchmark], row["seconds"])
        for row in _read()["matching_accuracy"]
        if benchmark in row
    }


def names_notes(benchmark: str, synonyms: str) -> tuple[str, ...]:
    """Returns what is to be said of the names where a result stands beside one of the paper's.

    Args:
      benchmark: Its name.
      synonyms: File with names of the classes; empty for the official names.
    """
    own = [row.scores for row in paper_rows() if row.method == OURS]
    reported = any(benchmark in scores for scores in own) or paper_matching_accuracy(benchmark)
    if synonyms or not reported:
        return ()
    general = (
        "Classes have their official names here; papers score with longer lists of names "
        "(synonyms), so that their numbers are not those of the same task."
    )
    if benchmark != "pascal_voc21":
        return (general,)
    return (
        general,
        "The background has one name here, `background`, where the published protocol has 74 names "
        "of what it may be: this number is far below that one.",
    )


def protocol_note(benchmark: str) -> str:
    """Returns in what published rows of a table are scored otherwise; empty if in nothing known."""
    if benchmark != "pascal_voc21":
        return ""
    return (
        "pascal_voc21: weakly supervised methods other than Uni-OVSeg give the background what no "
        "class is sure of (`pascal_voc21_threshold`), the others tell it by names; these are not "
        "the same task."
    )


@functools.cache
def _read() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))
