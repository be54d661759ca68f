"""What a preparation is: for every image, files that there are and files that are made of them."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Item:
    """One image of a split; small, and may go to another process.

    Attributes:
      id: Unique within the split.
      inputs: Files that are read.
      outputs: Files that are made.
      detail: What else a list of the dataset says of the image.
    """

    id: str
    inputs: tuple[pathlib.Path, ...]
    outputs: tuple[pathlib.Path, ...] = ()
    detail: Any = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done for one split.

    Attributes:
      items: In the order of their ids.
      expected: How many there are in the real dataset.
      make: Reads the inputs of an item; returns the contents of its outputs, and what the documents
        need to know. It raises a ValueError that names the file where one is wrong.
      documents: JSON files about the split as a whole, which are written last.
      finish: Turns what `make` returned, in the order of the items, into those documents.
      settings: By which choices the files were made.
    """

    items: Sequence[Item]
    expected: int
    make: Callable[[Item], tuple[Sequence[bytes], Any]]
    documents: tuple[pathlib.Path, ...] = ()
    finish: Callable[[list[Any]], Sequence[Any]] = lambda entries: ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a dataset is prepared.

    Attributes:
      name: As the command takes it.
      folder: Of the data root, where it is written to.
      downloads: What is needed, from where, and where it goes, in sentences.
      makes: What comes out, in sentences.
      plan: Lists a split, given the data root and `train` or `val`; reads no images. It raises a
        FileNotFoundError or ValueError that names the first list that is missing or wrong.
    """

    name: str
    folder: str
    downloads: tuple[str, ...]
    makes: tuple[str, ...]
    plan: Callable[[pathlib.Path, str], Plan]


def stems(folders: Mapping[pathlib.Path, tuple[str, str]]) -> list[str]:
    """Returns the sorted stems that occur in any of several folders.

    So that what lacks one of its files is noticed wherever it lacks it.

    Args:
      folders: The pattern that the names there follow as a whole, its first group is the stem; and
        for people what such a name looks like.

    Raises:
      FileNotFoundError: If there is no such folder, or nothing like that in it.
    """
    found: set[str] = set()
    for folder, (pattern, looks) in folders.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}.")
        here = [re.fullmatch(pattern, path.name) for path in folder.iterdir()]
        if not any(here):
            raise FileNotFoundError(f"{folder} holds no file whose name is like {looks}.")
        found.update(match[1] for match in here if match)
    return sorted(found)
