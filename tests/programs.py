"""The repository's programs as a user runs them: each in a process of its own, on one device."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

_LEVEL = "--xla_backend_optimization_level="
_ASKED_FOR = re.search(rf"{_LEVEL}\d", os.environ.get("XLA_FLAGS", ""))


def xla_flags(num_devices):
    """Options for that many virtual CPU devices.

    Most of the suite's time is spent in compiling programs that run once or twice; it takes a third
    less without LLVM's optimizations. A level that XLA_FLAGS asked for stays.
    """
    level = _ASKED_FOR.group() if _ASKED_FOR else f"{_LEVEL}0"
    # Devices that share a busy core wait for each other longer than XLA's 40 s, which abort.
    patience = "--xla_cpu_collective_call_terminate_timeout_seconds=280"
    return f"--xla_force_host_platform_device_count={num_devices} {patience} {level}"


def environment(num_devices=1, **variables):
    """The variables for a process that finds the package and has that many devices."""
    flags = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": xla_flags(num_devices)}
    return {**os.environ, **flags, **variables}


def run_program(path, *arguments, cwd=None, timeout=240, **variables):
    """Runs a program, `scripts/train.py`, to its end; returns what subprocess.run does, as text."""
    return subprocess.run(
        [sys.executable, str(ROOT / path), *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
