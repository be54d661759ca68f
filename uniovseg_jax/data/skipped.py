"""Counts what cannot be used, and ends a run where that is too much."""

import threading

from absl import logging

from uniovseg_jax.files import one_line


class SkippedRecords:
    """Counts records that cannot be used, names them, and ends the run where there are too many.

    Threads may share it.
    """

    def __init__(self, most: float, seen: int = 0):
        """Prepares to count.

        Args:
          most: Largest share of all records; one in the first few is never too many.
          seen: Records that were seen before, by a run that was ended.
        """
        self._most, self._seen, self._skipped = most, seen, 0
        self._lock = threading.Lock()

    def count(self, name: str = "", error: ValueError | None = None) -> None:
        """Counts a record; one that cannot be used comes with its name and the reason.

        Raises:
          ValueError: If this is one too many.
        """
        with self._lock:
            self._seen += 1
            if error is None:
                return
            self._skipped += 1
            complaint = f"Record {name} cannot be used: {one_line(error)}"
            if self._skipped > max(1.0, self._most * self._seen) or not self._most:
                raise ValueError(
                    f"{complaint} That makes {self._skipped} of {self._seen}, more than the share "
                    f"of {self._most} that data.max_skipped allows."
                ) from error
        logging.warning("%s It is skipped.", complaint)
