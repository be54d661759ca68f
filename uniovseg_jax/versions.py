"""What must be known to repeat a result."""

import os
import platform

import jax
import numpy as np

from uniovseg_jax import __version__


def versions() -> dict[str, str]:
    """Returns the versions of the packages that decide numbers, and the machine."""
    return {
        "uniovseg_jax": __version__,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {jax.default_backend()}",
    }
