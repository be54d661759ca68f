"""A function over many items in several processes, in order and within bounded memory."""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

# Items that each process has in work or done.
_AHEAD = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], num_workers: int
) -> Iterator[_Result]:
    """Yields `function(item)` in the order of the items; other processes run a little ahead.

    The workers are spawned, not forked: a fork of a process with threads may hang. A script that
    calls this therefore needs the usual `if __name__ == "__main__"`. They end with this process,
    also when it is killed.

    Args:
      function: Can be pickled, and so can items and results.
      items: Asked for as they are needed.
      num_workers: Processes; below 2 the calling process does it all.

    Raises:
      OSError: If a worker was killed.
    """
    if num_workers < 2:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(num_workers, context, _follow_parent)
    ahead: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= num_workers * _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    except concurrent.futures.BrokenExecutor as error:
        raise OSError("A process that read records was killed; was memory short?") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Ends this worker when its parent is gone; it would wait for work for ever."""
    # Ctrl-C reaches every process of a terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
