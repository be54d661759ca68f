"""Where a run's time and memory go."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator

import jax


class Clock:
    """Adds up seconds by activity between two readings."""

    def __init__(self, batch_size: int):
        """Starts with nothing; a step sees `batch_size` examples."""
        self._batch_size = batch_size
        self._seconds: dict[str, float] = {}
        self._steps = 0

    @contextlib.contextmanager
    def time(self, activity: str) -> Iterator[None]:
        """Adds the time within to that of the activity."""
        self._steps += activity == "step"
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self._seconds[activity] = self._seconds.get(activity, 0.0) + elapsed

    def read(self) -> dict[str, float]:
        """Returns rate, seconds per activity since the last reading and memory, and starts anew."""
        seconds, steps = self._seconds, self._steps
        self._seconds, self._steps = {}, 0
        working = seconds.get("data", 0.0) + seconds.get("step", 0.0)
        return {
            "examples_per_second": self._batch_size * steps / max(working, 1e-9),
            **{f"{name}_seconds": value for name, value in seconds.items()},
            "peak_memory_gib": _peak_memory() / (1 << 30),
        }


def _peak_memory() -> int:
    """Returns bytes: of the first device's own memory, or of the process where it has none."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
