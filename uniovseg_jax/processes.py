"""Several processes that work as one."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


def join_processes(value: str) -> None:
    """Joins the other processes; to be called before anything else asks JAX for devices.

    Args:
      value: `auto` where JAX can find out (TPU pods, Slurm, Open MPI), or `<host>:<port>` of the
        first process, the number of processes and the number of this one, separated by commas.

    Raises:
      ValueError: If it is anything else.
    """
    if value == "auto":
        jax.distributed.initialize()
        return
    words = value.split(",")
    if len(words) != 3 or not all(word.isdecimal() for word in words[1:]):
        raise ValueError(
            f"--distributed is {value!r}; expected auto, or "
            "<host>:<port>,<number of processes>,<number of this process>."
        )
    jax.distributed.initialize(words[0], int(words[1]), int(words[2]))


@contextlib.contextmanager
def all_or_none(what: str) -> Iterator[None]:
    """Waits at the end for all processes to get there; what fails in one fails in all.

    Without this, those that are well would wait for ever for the one that has given up.

    Args:
      what: Is done within, by all processes in the same order, for complaints: "The check".

    Raises:
      ValueError: If it failed in another process; in that one, what was raised.
    """
    error = None
    try:
        yield
    except Exception as failure:
        error = failure
    if jax.process_count() > 1:
        failed = np.asarray(multihost_utils.process_allgather(np.array(error is not None))).ravel()
        if error is None and failed.any():
            raise ValueError(
                f"{what} failed in process {int(np.argmax(failed))}, which says why; this is "
                f"process {jax.process_index()}."
            )
    if error is not None:
        raise error
