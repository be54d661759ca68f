"""Calls a conversion script as a user does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(script, *flags):
    """Runs a script; returns exit code, output and errors."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, str(ROOT / "convert" / f"{script}.py"), *map(str, flags)],
        cwd="/",  # It finds the package wherever it is called from.
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
