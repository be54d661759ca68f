"""Workers: the order stays, little is read ahead, nobody is left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from uniovseg_jax.data import workers


def square(number):
    return number * number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_order_and_items_are_asked_for_as_needed(num_workers):
    asked = []

    def items():
        for number in range(100):
            asked.append(number)
            yield number

    results = workers.map_in_order(square, items(), num_workers)
    assert [next(results) for _ in range(10)] == [number**2 for number in range(10)]
    assert len(asked) <= 10 + 2 * workers._AHEAD
    assert list(results) == [number**2 for number in range(10, 100)]


def test_an_error_of_the_function_or_of_the_items_comes_through():
    with pytest.raises(TypeError):
        list(workers.map_in_order(square, [1, None, 2], 2))

    def items():
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(workers.map_in_order(square, items(), 2))


def test_a_killed_worker_is_an_error_and_no_hang():
    with pytest.raises(OSError, match="A process that read records was killed"):
        list(workers.map_in_order(die, range(3), 2))


def test_workers_end_with_a_parent_that_is_killed():
    code = (
        "import itertools, os\n"
        "from uniovseg_jax.data.workers import map_in_order\n"
        "if __name__ == '__main__':\n"
        "    for group in map_in_order(os.getpgid, itertools.repeat(0), 2):\n"
        "        print(group, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    process.kill()
    # The pipe ends when the last process that holds it is gone.
    start = time.monotonic()
    while process.stdout.read(1 << 16):
        pass
    assert time.monotonic() - start < 10
