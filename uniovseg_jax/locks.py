"""Folders that one process at a time works in."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import re
import socket
from collections.abc import Iterator

from uniovseg_jax.files import make_folder

LOCK_FILE = ".lock"


@contextlib.contextmanager
def one_at_a_time(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process is in here for the same folder, which is made if need be.

    The lock is the operating system's and ends with the process.
    """
    make_folder(folder)
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
      OSError: If the folder cannot be made.
      ValueError: If another process is in here for the same folder.
    """
    make_folder(folder)
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


def check_only_ours(folder: pathlib.Path, ours: re.Pattern[str], whose: str) -> None:
    """Makes sure that a folder to write to is new or holds nothing of others; changes nothing.

    Args:
      folder: May be missing.
      ours: What the name of every file in it is.
      whose: Says what other files are: "no conversion wrote".

    Raises:
      ValueError: If it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the records.")
    found = sorted(folder.iterdir()) if folder.exists() else []
    foreign = [path.name for path in found if not ours.fullmatch(path.name)]
    if foreign:
        raise ValueError(f"{folder} holds {foreign[0]!r}, which {whose}; choose an empty folder.")
