"""Every benchmark by its name."""

import os
import pathlib
from collections.abc import Callable, Mapping

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.named import NAMED

# Given the data root and a split.
BENCHMARKS: Mapping[str, Callable[[pathlib.Path, str], Benchmark]] = {**NAMED}


def open_benchmark(name: str, root: str | os.PathLike[str], split: str = "val") -> Benchmark:
    """Opens a benchmark; `check_benchmark` then looks at its files.

    Args:
      name: A key of `BENCHMARKS`.
      root: Folder that all datasets are in.
      split: `val` or `train`; promptable sets may have others.

    Raises:
      FileNotFoundError: If the dataset is not there; says what was expected.
      ValueError: If there is no such benchmark or split, or its files do not belong together.
    """
    if name not in BENCHMARKS:
        raise ValueError(
            f"Unknown benchmark {name!r}; expected one of {', '.join(sorted(BENCHMARKS))}."
        )
    folder = pathlib.Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no data folder {folder}.")
    return BENCHMARKS[name](folder, split)
