"""Files that are there whole or not at all, folders for them, and what to say of those amiss."""

import os
import pathlib
import uuid
from collections.abc import Callable, Collection
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


def write_text_whole(path: pathlib.Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_folder(folder: pathlib.Path) -> None:
    """Raises a NotADirectoryError, one sentence, if a file is where a folder is to be made."""
    for path in (folder, *folder.parents):
        # Not of pathlib, which complains of what may not be looked at.
        if os.path.exists(path) and not os.path.isdir(path):
            raise NotADirectoryError(f"{path} is a file; expected a folder.")


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder, and those above it, unless it is there.

    Raises:
      OSError: If it cannot be made, in one sentence.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def first_of(names: Collection[str]) -> str:
    """Returns the first of some names in their order, and how many more there are."""
    others = len(names) - 1
    more = f" and {others} other{'s' if others > 1 else ''}" if others else ""
    return f"{min(names)!r}{more}"


def one_line(error: BaseException) -> str:
    """Returns what an error says as one sentence, to be put behind a file's name."""
    return " ".join(str(error).split()).rstrip(".") + "."
