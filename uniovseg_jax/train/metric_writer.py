"""Numbers of a run: JSON lines to compare runs by, TensorBoard to look at, timings apart."""

import json
import math
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.files import write_text_whole

METRICS_FILE = "metrics.jsonl"
TIMINGS_FILE = "timings.jsonl"


class MetricWriter:
    """Appends to `metrics.jsonl`, `timings.jsonl` and TensorBoard files in `<workdir>`.

    Metrics of a run are the same whenever it is repeated; timings never are, and so they have a
    file of their own.
    """

    def __init__(self, workdir: pathlib.Path, step: int, size: int):
        """Opens the files of a run that goes on; what came later is dropped as undone.

        Args:
          workdir: Of the run.
          step: Where it stands.
          size: `size` of the metrics when it stood there, 0 for a new run. Steps would not do: an
            evaluation of that very step may be done or still to come.
        """
        # Here and not above: tensorboardX imports torch where that is installed.
        from tensorboardX import SummaryWriter

        workdir.mkdir(parents=True, exist_ok=True)
        self._files = {}
        metrics, timings = workdir / METRICS_FILE, workdir / TIMINGS_FILE
        if metrics.exists():
            os.truncate(metrics, min(size, metrics.stat().st_size))
        if timings.exists():
            lines = timings.read_text().splitlines(keepends=True)
            kept = "".join(line for line in lines if _step_of(line) <= step)
            write_text_whole(timings, kept)
        for path in (metrics, timings):
            self._files[path.name] = path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    @property
    def size(self) -> int:
        """Bytes of metrics written so far."""
        return self._files[METRICS_FILE].tell()

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
