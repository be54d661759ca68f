"""What scripts do alike with their command lines."""

import functools
import importlib.util
import pathlib
import signal
import sys
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags


def parse_flags(argv: list[str]) -> list[str]:
    """Parses a command line of nothing but flags, for `app.run`.

    Anything else, and what a configuration or a flag is wrong about, is one sentence for people and
    exit code 2. From then on Ctrl-C ends the script with one sentence too.
    """
    left = parse_flags_and_words(argv)
    if len(left) > 1:
        _end(f"Unexpected argument {left[1]!r}: every argument is a --flag.")
    return left


def parse_flags_and_words(argv: list[str]) -> list[str]:
    """Does as `parse_flags`, and leaves what is no flag to the script."""
    _say_when_stopped("Stopped.")
    try:
        left = flags.FLAGS(argv)
    # Configurations complain with whatever ml_collections or they raise.
    except (flags.Error, ValueError, OSError, AttributeError, KeyError, TypeError) as error:
        _end(_sentence(error))
    # ml_collections says so only when the configuration is first read.
    if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
        path = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
        if not pathlib.Path(path).is_file():
            _end(f"There is no configuration file {path}.")
    return left


def load_config_file(path: pathlib.Path) -> Any:
    """Returns the module of a configuration file, such as configs/eval.py."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_config", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def goes_on_when_repeated() -> None:
    """To be called by scripts that keep what is done: Ctrl-C says so from now on."""
    _say_when_stopped("Stopped; the same command goes on from here.")


def _say_when_stopped(sentence: str) -> None:
    # Python ends such a process by the signal itself, which is 130 to a shell and ends its loops.
    sys.excepthook = functools.partial(_excepthook, sentence)


def _excepthook(sentence: str, kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"\n{sentence}", file=sys.stderr)
    # Threads may have an image to finish; whoever does not wait for them ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def _sentence(error: BaseException) -> str:
    """Returns what an error says; those of configurations come in a report of where they arose."""
    reason = error
    while "Traceback" in str(reason):
        reason = reason.__cause__ or reason.__context__ or ValueError("The configuration is wrong.")
    if isinstance(reason, AttributeError | KeyError) and reason.args:
        name = str(reason.args[0]).strip("\"'")
        if name.isidentifier():
            return f"The configuration has no field {name!r}."
        return name
    return " ".join(str(reason).split())
