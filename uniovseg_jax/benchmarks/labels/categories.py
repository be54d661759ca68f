"""The `categories` of COCO's forms: which number is which class, said by the file itself."""

import pathlib
import re
from typing import Any

from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.json_fields import at, read_flag, whole_number


def check_categories(document: dict[str, Any], classes: ClassList, path: pathlib.Path) -> None:
    """Makes sure that a file numbers its classes as a list does.

    Labels numbered otherwise would be scored as other classes, and PQ be near 0 beside a good mIoU.
    A file may list some of the classes, or none. Names are spelled in many ways: only one that is
    the name of another class is wrong.

    Args:
      document: The file's content.
      classes: With the ids that the file should have.
      path: For complaints.

    Raises:
      ValueError: If a category is malformed, has the id of another class, or is of another kind
        (thing or stuff).
    """
    rows = document.get("categories") or []
    if not isinstance(rows, list):
        raise ValueError(f'{path}: expected a list "categories".')
    named: dict[str, set[int]] = {}
    for index, info in enumerate(classes.classes):
        for name in _names(info.name, *info.synonyms):
            named.setdefault(name, set()).add(index)
    for place, row in enumerate(rows):
        at(f"{path}, categories[{place}]", _check_category, row, classes, named)


def _check_category(row: Any, classes: ClassList, named: dict[str, set[int]]) -> None:
    index = classes.index_of.get(whole_number(row, "id", low=0))
    # One that no annotation has harms nobody, and any other is refused there.
    if index is None:
        return
    info = classes.classes[index]
    owners = [named[name] for name in _names(str(row.get("name", ""))) if name in named]
    if owners and not any(index in indices for indices in owners):
        raise ValueError(f"id {info.id} is {row['name']!r}, expected {info.name!r}.")
    if row.get("isthing") is None or info.isthing is None:
        return
    if read_flag(row, "isthing") != info.isthing:
        raise ValueError(
            f"'isthing' of {info.name!r} is {int(not info.isthing)}, expected {int(info.isthing)}."
        )


def _names(*texts: str) -> list[str]:
    """Returns names in one spelling, whole and between commas."""
    parts = [part for text in texts for part in (text, *text.split(","))]
    plain = [re.sub(r"[\W_]+", " ", part.casefold()).strip() for part in parts]
    return [name for name in plain if name]
