"""What a long run says about itself: its parts, their time, its memory."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator


class Progress:
    """Says which part runs and how long it took.

    Attributes:
      seconds: Of every part that has ended.
    """

    def __init__(self, parts: int):
        self.seconds: dict[str, float] = {}
        self._parts = parts
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Prints and times one part."""
        print(f"[{len(self.seconds) + 1}/{self._parts}] {name} ...", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        print(f"      {self.seconds[name]:.1f} s", flush=True)

    def total(self) -> float:
        """Returns the seconds since the start."""
        return time.perf_counter() - self._start


def peak_memory_gib() -> float:
    """Returns the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)
