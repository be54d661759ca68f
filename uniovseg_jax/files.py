"""Files that are there whole or not at all, and what to say when one cannot be read."""

import os
import pathlib
import uuid
from collections.abc import Callable
from typing import Any


def write_whole(path: pathlib.Path, write: Callable[[pathlib.Path], Any]) -> None:
    """Calls `write` with another name in the same folder and then gives the file its own name.

    The other name has the same suffix, by which some writers choose the format. The file can be
    read by everyone who may read new files of this user, whatever the writer prefers.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    temporary.touch()
    mode = temporary.stat().st_mode & 0o777
    try:
        write(temporary)
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def one_line(error: BaseException) -> str:
    """Returns what an error says as one sentence, to be put behind a file's name."""
    return " ".join(str(error).split()).rstrip(".") + "."
