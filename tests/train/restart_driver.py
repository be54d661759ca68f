"""Runs a training in processes of its own, and ends them from outside.

python tests/train/restart_driver.py <config.json> <workdir> <signal> <when> ...

For each <when>, seconds or the name of a moment, a process trains until the signal reaches it then;
one more trains to the end. Imports happen once, before the first fork; JAX starts in the children.
Prints a JSON list with, for each process, its exit code (3: told to end, everything saved), whether
the signal reached it, and how long it lived on (for the last one: how long it lived).
"""

import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable

import ml_collections

from uniovseg_jax.train.interruption import Interrupted
from uniovseg_jax.train.loop import train


def _fork(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        train(config, workdir)
        code = 0
    except Interrupted:
        code = 3
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def _is_over(child: int) -> bool:
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child, flags) is not None


def _moment(name: str, workdir: pathlib.Path) -> Callable[[], bool]:
    """Returns whether a run, seen from outside, is doing what the name says."""
    metrics = workdir / "metrics.jsonl"

    def lines() -> list[str]:
        return metrics.read_text().splitlines() if metrics.exists() else []

    return {
        "start": (workdir / "config.json").exists,
        "first data": metrics.exists,
        "compile": lambda: metrics.exists() and time.time() > metrics.stat().st_mtime + 1,
        "step": lambda: any('"step": 3,' in line for line in lines()),
        "evaluation": lambda: any('"step": 6,' in x for x in lines()) and "val_" not in lines()[-1],
        "save": lambda: any((workdir / "checkpoints").glob("*tmp*")),
    }[name]


def main(argv: list[str]) -> None:
    """Runs what the arguments say."""
    config = ml_collections.ConfigDict(json.loads(pathlib.Path(argv[0]).read_text()))
    workdir, number, rows = pathlib.Path(argv[1]), signal.Signals[argv[2]], []
    for when in (*argv[3:], "end"):
        child, start = _fork(config, workdir), time.monotonic()
        reached = False
        if when != "end":
            is_number = when.replace(".", "").isdecimal()
            is_time = _moment(when, workdir) if not is_number else lambda: False
            limit = float(when) if is_number else 120.0
            while not _is_over(child) and time.monotonic() < start + limit and not is_time():
                time.sleep(0.001)
            reached = not _is_over(child)
            start = time.monotonic()
            if reached:
                os.kill(child, number)
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - start
        rows.append([os.waitstatus_to_exitcode(status), reached, seconds])
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
