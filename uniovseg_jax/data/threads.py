"""A function over many items in several threads, in order and within bounded memory."""

import collections
import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

# Items that each thread has in work or done.
_AHEAD = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_in_threads(
    function: Callable[[_In], _Out], items: Iterable[_In], num_threads: int
) -> Iterator[_Out]:
    """Yields `function(item)` in the order of the items; threads run a little ahead.

    Args:
      function: Called in threads; what it raises ends the iteration.
      items: Asked for as they are needed, in the calling thread.
      num_threads: Below 2 the calling thread does it all.
    """
    if num_threads < 2:
        yield from map(function, items)
        return
    pool = concurrent.futures.ThreadPoolExecutor(num_threads)
    ahead: collections.deque[concurrent.futures.Future[_Out]] = collections.deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= num_threads * _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # Not waited for: what a thread waits for is ended by those who opened it.
        pool.shutdown(wait=False, cancel_futures=True)
