"""Files appear whole."""

import pytest

from uniovseg_jax.files import one_line, write_whole


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


def test_an_error_becomes_one_sentence():
    assert one_line(ValueError("two\n  lines...")) == "two lines."
