"""How fast to ask, and how long to wait after a failure."""

import datetime
import email.utils
import random
import time
from collections.abc import Callable

# The longest wait between two attempts that we choose ourselves, in seconds.
_MAX_BACKOFF = 60.0
# A bucket holds as much as flows in during this share of a minute.
_BURST = 1 / 12


class TokenBucket:
    """Lets so much through a minute on the average, with short bursts."""

    def __init__(self, per_minute: int | float, clock: Callable[[], float] = time.monotonic):
        """Begins full.

        Args:
          per_minute: What flows in; 0 for no limit.
          clock: Returns seconds.
        """
        self._rate = per_minute / 60
        self._burst = max(1.0, per_minute * _BURST)
        self._clock, self._level, self._last = clock, self._burst, clock()

    def reserve(self, amount: int | float) -> float:
        """Takes an amount of any size out, on credit if need be.

        Returns:
          Seconds to wait before using it; those who come later wait longer.
        """
        if not self._rate:
            return 0.0
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._last) * self._rate) - amount
        self._last = now
        return max(0.0, -self._level / self._rate)

    def correct(self, amount: int | float) -> None:
        """Takes out what was used beyond the reserved amount; a negative one is given back."""
        self._level -= amount


def backoff_delay(attempt: int, base: float) -> float:
    """Returns seconds to wait after a failed attempt: doubled each time, with jitter.

    Args:
      attempt: That failed, from 1.
      base: Longest wait after the first one, in seconds.
    """
    longest = min(_MAX_BACKOFF, base * 2 ** min(attempt - 1, 30))
    return longest * random.uniform(0.5, 1)


def parse_retry_after(value: str | None) -> float | None:
    """Reads the header Retry-After, seconds or an HTTP date.

    Returns:
      Seconds from now on, at least 0; None where there is no such header or it is malformed.
    """
    text = (value or "").strip()
    if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 12:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    # An empty text raises TypeError in some versions, odd numbers OverflowError.
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())
