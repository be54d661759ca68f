"""Every benchmark by its name."""

import os
import pathlib

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.named import NAMED
from uniovseg_jax.benchmarks.preparation_record import with_preparation
from uniovseg_jax.benchmarks.prompted import PROMPTED_SETS
from uniovseg_jax.benchmarks.split_sizes import with_note_of_size

BENCHMARKS = (*NAMED, *PROMPTED_SETS)


def open_benchmarks(
    name: str, root: str | os.PathLike[str], split: str = ""
) -> tuple[Benchmark, ...]:
    """Opens a benchmark, or all parts of a suite; `check_benchmark` then looks at its files.

    Args:
      name: One of `BENCHMARKS`.
      root: Folder that all datasets are in.
      split: Empty for the usual one; else `val` or `train`, and what promptable sets have.

    Raises:
      FileNotFoundError: If the dataset is not there; says what was expected.
      ValueError: If there is no such benchmark or split, or its files do not belong together.
    """
    check_name(name)
    folder = pathlib.Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no data folder {folder}.")
    if name in NAMED:
        split = split or "val"
        benchmark = with_preparation(NAMED[name](folder, split), folder, split)
        return (with_note_of_size(benchmark, split),)
    opened = PROMPTED_SETS[name](folder, split or None)
    return opened if isinstance(opened, tuple) else (opened,)


def check_name(name: str) -> None:
    """Raises a ValueError that lists the benchmarks if there is none of this name."""
    if name not in BENCHMARKS:
        whole = sorted(known for known in BENCHMARKS if "/" not in known)
        raise ValueError(
            f"Unknown benchmark {name!r}; expected one of {', '.join(whole)}, or a part such as "
            "seginw/Cows."
        )
