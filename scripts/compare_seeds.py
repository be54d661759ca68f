"""Puts the reports of several worlds into one table, goals of the project beside it.

Run:  python scripts/compare_seeds.py runs/demo/report.json runs/tinyscenes/seed1/report.json
"""

import argparse
import json
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uniovseg_jax.eval.scenes.scores import gap_closed

Row = Mapping[str, float]
# baseline, unpaired, paired -> percent or points; None where it means nothing.
Measure = Callable[[Row, Row, Row], float | None]

_MEASURES: dict[str, Measure] = {
    "miou above the baseline": lambda b, u, p: u["miou"] - b["miou"],
    "miou_seen above the baseline": lambda b, u, p: u["miou_seen"] - b["miou_seen"],
    "% of the ceiling, miou_seen": lambda b, u, p: 100 * u["miou_seen"] / p["miou_seen"],
    "% of the gap closed, miou_seen": lambda b, u, p: gap_closed(
        b["miou_seen"], u["miou_seen"], p["miou_seen"]
    ),
    "unseen in % of seen": lambda b, u, p: 100 * u["miou_unseen"] / u["miou_seen"],
}
# Per measure: with the cosine loss, with the contrastive one.
_GOALS: dict[str, tuple[float, float]] = {
    "miou above the baseline": (8, 8),
    "miou_seen above the baseline": (15, 15),
    "% of the ceiling, miou_seen": (95, 95),
    "% of the gap closed, miou_seen": (90, 85),
    "unseen in % of seen": (75, 75),
}


def main(argv: Sequence[str]) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="+", type=pathlib.Path, help="report.json of the demo")
    try:
        reports = [read_report(path) for path in parser.parse_args(argv).reports]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(make_table(reports)))
    return 0


def read_report(path: pathlib.Path) -> dict[str, Any]:
    """Reads a report.

    Raises:
      OSError: If it cannot be read.
      ValueError: If it is no report of the demo.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        _ = report["seed"], report[report["split"]]["contrastive"]["unpaired"]["miou_seen"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report.json of the demo.") from error
    return report


def make_table(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a Markdown table: one column per world, and the mean."""
    seeds = [f"seed {report['seed']}" for report in reports]
    lines = [
        "| masks, loss | measure | " + " | ".join(seeds) + " | mean (deviation) | goal |",
        "| --- " * (len(seeds) + 4) + "|",
    ]
    for masks in ("predicted", "true"):
        for column, loss in enumerate(("cosine", "contrastive")):
            rows = [_rows(report, masks, loss) for report in reports]
            for name, measure in _MEASURES.items():
                values = [measure(*row) for row in rows]
                goal = _GOALS[name][column] if masks == "predicted" else None
                known = [value for value in values if value is not None]
                cells = ["meaningless" if value is None else f"{value:.1f}" for value in values]
                spread = f" ({statistics.stdev(known):.1f})" if len(known) > 1 else ""
                cells.append(f"{statistics.fmean(known):.1f}{spread}" if known else "")
                cells.append("" if goal is None else f"{goal:g}")
                lines.append(f"| {masks}, {loss} | {name} | " + " | ".join(cells) + " |")
    return lines


def _rows(report: Mapping[str, Any], masks: str, loss: str) -> tuple[Row, Row, Row]:
    table = report[report["split"]]
    if masks == "true":
        table = table["true_masks"]
    pair = table if loss == "cosine" else table["contrastive"]
    return table["baseline"], pair["unpaired"], pair["paired"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
