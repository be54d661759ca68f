"""Calls a conversion script as a user does."""

from programs import run_program


def run(script, *flags):
    """Runs a script; returns exit code, output and errors."""
    # From a folder that has nothing to do with it.
    done = run_program(f"convert/{script}.py", *flags, cwd="/", timeout=300)
    return done.returncode, done.stdout, done.stderr
