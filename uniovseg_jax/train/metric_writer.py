"""Numbers of a run: JSON lines to compare runs by, TensorBoard to look at, timings apart."""

import json
import math
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

METRICS_FILE = "metrics.jsonl"
TIMINGS_FILE = "timings.jsonl"


class MetricWriter:
    """Appends to `metrics.jsonl`, `timings.jsonl` and TensorBoard files in `<workdir>`.

    Metrics of a run are the same whenever it is repeated; timings never are, and so they have a
    file of their own.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        """Opens the files of a run that stands at `step`; later lines are dropped as undone."""
        # Here and not above: tensorboardX imports torch where that is installed.
        from tensorboardX import SummaryWriter

        workdir.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for name in (METRICS_FILE, TIMINGS_FILE):
            path = workdir / name
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            path.write_text("".join(line for line in lines if _step_of(line) <= step))
            self._files[name] = path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one line of metrics and the same numbers to TensorBoard."""
        self._write(METRICS_FILE, step, metrics)
        for name, value in metrics.items():
            if math.isfinite(value):
                self._board.add_scalar(name, value, step)

    def write_timings(self, step: int, timings: Mapping[str, float]) -> None:
        """Writes one line of timings and the same numbers to TensorBoard."""
        self._write(TIMINGS_FILE, step, timings)
        for name, value in timings.items():
            self._board.add_scalar(f"timings/{name}", value, step)

    def write_picture(self, step: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Shows a picture in TensorBoard."""
        self._board.add_image("picture", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes all files."""
        for file in self._files.values():
            file.close()
        self._board.close()

    def _write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        # JSON has no word for what is not finite.
        numbers = {k: float(v) if math.isfinite(v) else None for k, v in values.items()}
        line = {"step": step, **numbers}
        self._files[name].write(json.dumps(line) + "\n")
        self._files[name].flush()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # The torn last line of a run that was killed.
        return float("inf")
