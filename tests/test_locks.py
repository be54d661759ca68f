"""Folders have one user at a time."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest

from uniovseg_jax.locks import held_alone, one_at_a_time


def test_others_wait_until_a_folder_is_free(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        with one_at_a_time(tmp_path / "new" / "folder"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.05)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_second_user_is_refused_and_hears_who_is_first(tmp_path):
    folder = tmp_path / "new" / "folder"
    with held_alone(folder, "conversion"):
        first = rf"folder is in use by another conversion \(process {os.getpid()} on .* since "
        for _ in range(2):
            with pytest.raises(ValueError, match=first), held_alone(folder, "conversion"):
                pass
    assert list(folder.iterdir()) == []
    with pytest.raises(KeyError), held_alone(folder, "conversion"):
        raise KeyError
    assert list(folder.iterdir()) == []


def test_a_killed_user_leaves_no_lock_behind(tmp_path):
    code = (
        "import pathlib, sys, time; from uniovseg_jax.locks import held_alone\n"
        "with held_alone(pathlib.Path(sys.argv[1]), 'x'):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {process.pid} on"):
            with held_alone(tmp_path, "x"):
                pass
        process.kill()
        process.wait()
    with held_alone(tmp_path, "x"):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_one_user_at_a_time_even_where_the_file_of_the_lock_comes_and_goes(tmp_path):
    inside, most, done = 0, 0, 0

    def work():
        nonlocal inside, most, done
        for _ in range(200):
            with contextlib.suppress(ValueError), held_alone(tmp_path, "x"):
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1
                done += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and done > 0
