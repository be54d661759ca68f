"""Files appear whole; folders have one user at a time."""

import threading
import time

import pytest

from uniovseg_jax.files import one_at_a_time, one_line, write_whole


def test_a_file_that_fails_on_the_way_leaves_nothing(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_whole(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


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


def test_an_error_becomes_one_sentence():
    assert one_line(ValueError("two\n  lines...")) == "two lines."
