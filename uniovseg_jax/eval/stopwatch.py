"""Where the time of an image goes."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Adds up seconds by name.

    Attributes:
      seconds: By name, in the order of their first use.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts what happens within."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
