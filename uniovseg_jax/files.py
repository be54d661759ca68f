"""Files that are there whole or not at all, and what to say when one cannot be read."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any

LOCK_FILE = ".lock"


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
    with (folder / LOCK_FILE).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def held_alone(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Keeps every other process out of a folder, which is made if need be, or refuses to begin.

    The lock is the operating system's and ends with the process. Its file says who holds it, for
    the message of those who come second, and is removed at the end.

    Args:
      folder: To be used by one process only.
      what: Is done there, for complaints: "conversion".

    Raises:
      ValueError: If another process is in here for the same folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise ValueError(
                    f"{folder} is in use by another {what} ({owner}); expected a folder of its own "
                    "for each."
                ) from None
            # Who held it may have removed the file since it was opened: a lock on nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    break
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {started}")
        file.flush()
        stack.callback(path.unlink, missing_ok=True)
        yield


def one_line(error: BaseException) -> str:
    """Returns what an error says as one sentence, to be put behind a file's name."""
    return " ".join(str(error).split()).rstrip(".") + "."
