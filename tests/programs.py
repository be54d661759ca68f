"""The repository's programs as a user runs them: each in a process of its own, on one device."""

import os
import pathlib
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver

ROOT = pathlib.Path(__file__).resolve().parent.parent

_DEVICES = "--xla_force_host_platform_device_count"
_DEFAULTS = {
    # Most of the suite's time is spent in compiling programs that run once or twice; it takes a
    # third less without LLVM's optimizations.
    "--xla_backend_optimization_level": 0,
    # Devices that share a busy core wait for each other longer than XLA's 40 s, which abort.
    "--xla_cpu_collective_call_terminate_timeout_seconds": 280,
}


def xla_flags(num_devices):
    """Options for that many virtual CPU devices; others that XLA_FLAGS has stay."""
    given = os.environ.get("XLA_FLAGS", "").split()
    kept = [option for option in given if not option.startswith(_DEVICES)]
    names = {option.partition("=")[0] for option in kept}
    more = [f"{name}={value}" for name, value in _DEFAULTS.items() if name not in names]
    return " ".join([*kept, *more, f"{_DEVICES}={num_devices}"])


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


def call(script, *arguments):
    """Runs the module of a script, of the fixture `load_script`, in this process.

    Returns:
      The exit code.
    """
    with flagsaver.flagsaver():
        try:
            return script.main(script.parse_flags([f"{script.__name__}.py", *arguments]))
        except SystemExit as stop:
            return stop.code
        finally:
            flags.FLAGS.unparse_flags()
