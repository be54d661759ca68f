"""A function over many items in several threads, in order and within bounded memory."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import tqdm

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


def map_images(
    function: Callable[[str], _Out], image_ids: Sequence[str], title: str, progress: bool = True
) -> Iterator[_Out]:
    """Yields `function(image_id)` in order, from as many threads as there are cores, with a bar.

    Args:
      function: As of `map_in_threads`.
      image_ids: Of all images.
      title: Of the bar.
      progress: Whether there is one.
    """
    threads = min(16, os.cpu_count() or 1)
    results = map_in_threads(function, image_ids, threads)
    yield from tqdm.tqdm(results, title, len(image_ids), unit="image", disable=not progress)
