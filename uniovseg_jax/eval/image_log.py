"""What each image of an evaluation gave, line by line, so that a run can be left and taken up."""

import json
import os
import pathlib
from typing import Any

from uniovseg_jax.files import make_folder, write_text_whole
from uniovseg_jax.settings import as_json, first_difference, read_settings

_SETTINGS_FILE = "run.json"


class ImageLog:
    """Results of finished images; every process appends to a file of its own.

    Use as a context. A line that a killed process left behind unfinished is not there.

    Attributes:
      done: Results by image id, of all processes, as they were when the log was opened; and since
        then of this one.
    """

    def __init__(self, folder: pathlib.Path, settings: dict[str, Any], process: int = 0):
        """Opens a folder, new or left behind.

        Args:
          folder: May be missing.
          settings: All that decides the results; those of a folder left behind must be equal.
          process: Number of this process.

        Raises:
          ValueError: If the folder was made with other settings, or its file of them is damaged.
        """
        make_folder(folder)
        _check_settings(folder / _SETTINGS_FILE, settings, process)
        self._path = folder / f"images-{process:05d}.jsonl"
        _drop_unfinished_line(self._path)
        self.done = read_image_log(folder)
        self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def __enter__(self) -> "ImageLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, image_id: str, result: dict[str, Any]) -> None:
        """Appends the result of an image; it survives the end of the process."""
        self._file.write(json.dumps({"id": image_id, **result}) + "\n")
        self._file.flush()
        self.done[image_id] = result


def check_log(folder: pathlib.Path, settings: dict[str, Any]) -> None:
    """Makes sure that a folder was made with these settings, or is new; changes nothing.

    Args:
      folder: May be missing.
      settings: Some of those that decide the results.

    Raises:
      ValueError: If it was made with others, or its file of them is damaged.
    """
    path = folder / _SETTINGS_FILE
    if path.is_file():
        found = read_settings(path)
        if isinstance(found, dict):
            found = {name: found.get(name) for name in settings}
        _refuse_others(folder, found, as_json(settings))


def read_image_log(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns the results of all processes by image id.

    Raises:
      ValueError: If a whole line is damaged.
    """
    found = {}
    for path in sorted(folder.glob("images-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    result = _parse(line, path)
                    found[result.pop("id")] = result
    return found


def _parse(line: str, path: pathlib.Path) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except ValueError:
        result = None
    if not isinstance(result, dict) or "id" not in result:
        raise ValueError(
            f"{path} holds a line that is no result of an image: {line[:40]!r}; remove that line "
            "or the file to score its images again."
        )
    return result


def _check_settings(path: pathlib.Path, settings: dict[str, Any], process: int) -> None:
    settings = as_json(settings)
    if path.is_file():
        _refuse_others(path.parent, read_settings(path), settings)
    elif process == 0:
        text = json.dumps(settings, indent=1) + "\n"
        write_text_whole(path, text)


def _refuse_others(folder: pathlib.Path, found: Any, settings: dict[str, Any]) -> None:
    if other := first_difference(found, settings):
        raise ValueError(
            f"{folder} was made with other settings ({other}); delete it or choose another folder."
        )


def _drop_unfinished_line(path: pathlib.Path) -> None:
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
