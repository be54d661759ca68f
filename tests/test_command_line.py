"""Command lines of scripts: what is wrong about one is said in one sentence."""

import pathlib
import signal
import subprocess
import sys

import pytest

from uniovseg_jax.command_line import goes_on_when_repeated

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_SCRIPT = """
from absl import app, flags
from ml_collections import config_flags
from uniovseg_jax.command_line import goes_on_when_repeated, parse_flags, parse_flags_and_words

flags.DEFINE_bool("words", False, "Whether words are taken.")
CONFIG = config_flags.DEFINE_config_file("config", None, "")
flags.DEFINE_string("workdir", None, "")
flags.mark_flags_as_required(["workdir"])


def main(argv):
    if "stop" in argv:
        raise KeyboardInterrupt
    if "stop later" in argv:
        goes_on_when_repeated()
        raise KeyboardInterrupt
    print(argv[1:], CONFIG.value.batch_size if CONFIG.value else None)


if __name__ == "__main__":
    import sys

    words = "--words" in sys.argv
    app.run(main, flags_parser=parse_flags_and_words if words else parse_flags)
"""
_STAGE1 = "--config=configs/tinyscenes.py:stage1"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(_SCRIPT)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, path, *arguments], capture_output=True, text=True, cwd=_ROOT
        )

    return run


def test_a_good_one_is_parsed(script):
    done = script("--workdir=x", _STAGE1, "--config.batch_size=3")
    assert (done.stdout, done.stderr, done.returncode) == ("[] 3\n", "", 0)
    assert script("--workdir=x", "--words", "a", "b").stdout == "['a', 'b'] None\n"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("stop", "Stopped."), ("stop later", "Stopped; the same command goes on from here.")],
)
def test_ctrl_c_is_one_sentence(script, word, sentence):
    done = script("--workdir=x", "--words", word)
    # By the signal, which a shell calls 130.
    assert (done.stderr, done.returncode) == (f"\n{sentence}\n", -signal.SIGINT)


def test_any_other_mistake_keeps_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", None)
    goes_on_when_repeated()
    sys.excepthook(RuntimeError, RuntimeError("a bug"), None)
    assert capsys.readouterr().err == "RuntimeError: a bug\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workdir=x", "a"], "Unexpected argument 'a': every argument is a --flag."),
        (["--workdir=x", "--wish"], "Unknown command line flag 'wish'"),
        ([], "flag --workdir=None: Flag --workdir must have a value other than None."),
        (
            ["--workdir=x", "--config=configs/no.py:stage1"],
            "There is no configuration file configs/no.py.",
        ),
        (
            ["--workdir=x", "--config=configs/tinyscenes.py:wish"],
            "Unknown phase 'wish'; expected one of clip, stage1, stage2.",
        ),
        (["--workdir=x", _STAGE1, "--config.wish=3"], "The configuration has no field 'wish'."),
        (
            ["--workdir=x", _STAGE1, "--config.batch_size=x"],
            "flag --config.batch_size=x: invalid literal for int() with base 10: 'x'",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(script, arguments, sentence):
    done = script(*arguments)
    assert (done.stdout, done.stderr, done.returncode) == ("", f"{sentence}\n", 2)
