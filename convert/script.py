"""What all conversion scripts do around their work."""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import app, flags, logging

from convert.checkpoints import write_checkpoint
from convert.parity import Parity
from uniovseg_jax.weights.engine import invert
from uniovseg_jax.weights.rules import Rule

_START = time.monotonic()


def run_script(argv: Sequence[str], work: Callable[[], int]) -> None:
    """Exits with what `work` returns; a mistake in flags or files is plain sentences and 2."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; expected only flags.")
    logging.set_verbosity(logging.WARNING)
    try:
        code = work()
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is one sentence and exit code 2."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def write_published(
    output: str, flat: Mapping[str, np.ndarray], rules: Sequence[Rule], names: str
) -> int:
    """Writes flat variables under their published names; returns the exit code."""
    state = invert(flat, rules)
    write_checkpoint(output, state)
    print(f"Written: {output}, {len(state)} tensors in {names} names.")
    return 0


def report_parity(parity: Parity | None) -> int:
    """Prints time, memory and how a comparison ended, if there was one; returns the exit code."""
    # Linux counts in KiB, macOS in bytes.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(f"Took {time.monotonic() - _START:.0f} s and at most {peak:.1f} GiB.")
    if parity is None:
        return 0
    print(parity.summary())
    return 0 if parity.passed else 1
