"""The classes of a dataset: ids, names and thing flags, facts that come with the package."""

import dataclasses
import functools
import hashlib
import json
import pathlib

import numpy as np
from jaxtyping import Bool, Int32

_FOLDER = pathlib.Path(__file__).resolve().parent / "class_lists"
VOID = -1


@dataclasses.dataclass(frozen=True)
class ClassInfo:
    """One class.

    Attributes:
      id: Value in the files of the dataset's owners.
      name: Official name; two classes of a list may share it.
      synonyms: Other official names.
      isthing: Whether instances are told apart; None where the dataset does not say.
      instance_id: Value in ADE20K's instance maps, where the class has instances.
      color: RGB of the dataset, where it defines one.
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    isthing: bool | None = None
    instance_id: int | None = None
    color: tuple[int, int, int] | None = None


@dataclasses.dataclass(frozen=True)
class ClassList:
    """All classes of a benchmark; the place in the list is the index that scores are kept by.

    Attributes:
      name: Of the list.
      classes: In the order of their indices.
      synonym_ids: What published files of synonyms number a class by: `id`, `index`, `index + 1`.
    """

    name: str
    classes: tuple[ClassInfo, ...]
    synonym_ids: str = "id"

    def __len__(self) -> int:
        """Returns the number of classes."""
        return len(self.classes)

    @functools.cached_property
    def index_of(self) -> dict[int, int]:
        """Index by id."""
        return {info.id: index for index, info in enumerate(self.classes)}

    @functools.cached_property
    def is_thing(self) -> Bool[np.ndarray, " t"]:
        """Which classes are things; classes of which the dataset does not say are not."""
        return np.array([bool(info.isthing) for info in self.classes])

    @functools.cached_property
    def sha256(self) -> str:
        """Of ids, names and thing flags in their order: equal where scores can be compared."""
        rows = [(info.id, info.name, info.isthing) for info in self.classes]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def lookup(self, size: int) -> Int32[np.ndarray, " size"]:
        """Returns the index for every label value below `size`, `VOID` for those of no class."""
        table = np.full(size, VOID, np.int32)
        for value, index in self.index_of.items():
            if value < size:
                table[value] = index
        return table


def load_class_list(name: str) -> ClassList:
    """Reads a list that comes with the package.

    Raises:
      ValueError: If there is no such list.
    """
    path = _FOLDER / f"{name}.json"
    if not path.is_file():
        known = sorted(file.stem for file in _FOLDER.glob("*.json"))
        raise ValueError(f"Unknown class list {name!r}; expected one of {', '.join(known)}.")
    document = json.loads(path.read_text(encoding="utf-8"))
    classes = [
        ClassInfo(
            id=row["id"],
            name=row["name"],
            synonyms=tuple(row.get("synonyms", ())),
            isthing=row.get("isthing"),
            instance_id=row.get("instance_id"),
            color=tuple(row["color"]) if "color" in row else None,
        )
        for row in document["classes"]
    ]
    return ClassList(name, tuple(classes), document["synonym_ids"])
