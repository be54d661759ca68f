"""Files that are there whole or not at all, and what to say when one cannot be read."""

import contextlib
import fcntl
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def one_at_a_time(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process is in here for the same folder, which is made if need be.

    The lock is the operating system's and ends with the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def one_line(error: BaseException) -> str:
    """Returns what an error says as one sentence, to be put behind a file's name."""
    return " ".join(str(error).split()).rstrip(".") + "."
