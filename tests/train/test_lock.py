"""A working directory has one trainer."""

import json
import os
import signal
import subprocess
import sys

import pytest

from uniovseg_jax.train.lock import RunLock

HOLD = """
import pathlib, sys, time
from uniovseg_jax.train.lock import RunLock
with RunLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_trainer_is_refused_and_hears_who_is_first(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(ValueError, match=f"in use by another trainer.*{os.getpid()}"):
            RunLock(tmp_path)
    with RunLock(tmp_path):
        owner = json.loads((tmp_path / "lock.json").read_text())
    assert owner["pid"] == os.getpid() and set(owner) == {"host", "pid", "started"}


def test_a_killed_trainer_leaves_no_lock_behind(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by another trainer.*{process.pid}"):
            RunLock(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with RunLock(tmp_path):
            pass
