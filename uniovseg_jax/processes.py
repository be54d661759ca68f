"""Several processes that work as one."""

import jax


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
