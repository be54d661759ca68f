"""Files appear whole."""

import pathlib

import pytest

from uniovseg_jax.files import first_of, make_folder, one_line, write_whole


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


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(NotADirectoryError, match=r"^\S*/file is a file; expected a folder\.$"):
            make_folder(path)
    with pytest.raises(OSError, match=r"^The folder /proc/x cannot be made: .*\.$"):
        make_folder(pathlib.Path("/proc/x"))


def test_names_are_the_first_and_how_many_more():
    assert first_of(["b"]) == "'b'"
    assert first_of({"b", "a"}) == "'a' and 1 other"
    assert first_of(["c", "b", "a"]) == "'a' and 2 others"
