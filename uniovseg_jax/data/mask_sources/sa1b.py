"""SA-1B: tars of `sa_<id>.jpg` and `sa_<id>.json`, read in place and never unpacked.

Only the headers of a tar are read here, one after the other. What counts as a record's image and
annotation is remembered as a place in the tar and read by the process that needs it, so that
members in any order cost no memory, and nothing of a tar is ever written under a name of its own.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import (
    MAX_ANNOTATION_BYTES,
    MAX_IMAGE_BYTES,
    Annotation,
    Candidate,
    FilePart,
    Skipped,
)
from uniovseg_jax.data.tar_members import tar_members
from uniovseg_jax.json_fields import parse_json, whole_number

# Ids of up to 18 digits without leading zeros, so that every name has one id and every id one name.
_MEMBER = re.compile(r"(?:\./)?sa_(0|[1-9][0-9]{0,17})\.(jpg|json)")
_LIMITS = {"jpg": MAX_IMAGE_BYTES, "json": MAX_ANNOTATION_BYTES}


class Sa1bTars:
    """Tars of SA-1B, one or a folder of them, in the order of their names."""

    total = None

    def __init__(self, path: str | os.PathLike[str], sample: Sample):
        """Lists the tars.

        Raises:
          FileNotFoundError: If there is nothing at `path`.
          ValueError: If it holds no tar, or the sample keeps none.
        """
        path = pathlib.Path(path)
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}: expected a tar or a folder of tars.")
        found = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"{path} holds no file ending in .tar.")
        self._sample = sample
        self._tars = [tar for tar in found if sample.keeps_tar(tar.name)]
        if not self._tars:
            raise ValueError(f"The sample keeps none of the {len(found)} tars in {path}.")

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the names of the tars."""
        return {"layout": "sa1b", "tars": [tar.name for tar in self._tars]}

    def candidates(self) -> Iterator[Candidate | Skipped]:
        """Yields records tar by tar, each where the second of its two members lies.

        Raises:
          ValueError: If a tar is damaged, cut off, or holds a name twice; names it.
        """
        for tar in self._tars:
            yield from self._candidates_of(tar)

    def _candidates_of(self, tar: pathlib.Path) -> Iterator[Candidate | Skipped]:
        # Of each image the first member found; None where it is too large.
        waiting: dict[str, tuple[str, FilePart | None]] = {}
        seen: set[str] = set()
        for member in tar_members(tar):
            if member.isdir() and member.name == ".":
                continue
            match = _MEMBER.fullmatch(member.name)
            if not match or not member.isreg() or member.issparse():
                # Names from outside may hold anything; repr makes them fit to be printed.
                name = f"{tar.name}/{member.name[:200]!r}"
                detail = "Expected a regular file named sa_<id>.jpg or sa_<id>.json."
                yield Skipped(name, "foreign member", detail)
                continue
            image_id, kind = match.groups()
            name = f"{tar.name}/sa_{image_id}"
            if f"{name}.{kind}" in seen:
                raise ValueError(f"{tar} holds sa_{image_id}.{kind} twice: not the published file.")
            seen.add(f"{name}.{kind}")
            if not self._sample.keeps_image(image_id):
                continue
            part = FilePart(tar, member.offset_data, member.size)
            if member.size > _LIMITS[kind]:
                part = None
                # Once per image, as everything is counted: not again if its other half was too.
                if image_id not in waiting or waiting[image_id][1]:
                    detail = f"It has {member.size} bytes, more than {_LIMITS[kind]}."
                    yield Skipped(f"{name}.{kind}", "too large", detail)
            if image_id not in waiting:
                waiting[image_id] = (kind, part)
                continue
            parts = dict([waiting.pop(image_id), (kind, part)])
            if parts["jpg"] and parts["json"]:
                read = functools.partial(_read_member, parts["json"], image_id)
                yield Candidate(image_id, name, parts["jpg"], read)
        for image_id, (kind, part) in waiting.items():
            if part:
                reason, absent = (
                    ("no image", "jpg") if kind == "json" else ("no annotation", "json")
                )
                detail = f"The tar has no sa_{image_id}.{absent}."
                yield Skipped(f"{tar.name}/sa_{image_id}.{kind}", reason, detail)


def read_sa1b_annotation(document: Any, image_id: str | None = None) -> Annotation:
    """Reads what SA-1B says of one image.

    Args:
      document: The parsed JSON file.
      image_id: Refuse that of another image; None for any.

    Raises:
      ValueError: If a part that matters is missing, of a wrong kind, or about another image.
    """
    if not isinstance(document, dict) or not isinstance(document.get("annotations"), list):
        raise ValueError('Expected an object with "image" and a list "annotations".')
    image = document.get("image")
    height, width = whole_number(image, "height"), whole_number(image, "width")
    if image_id is not None and (found := whole_number(image, "image_id", low=0)) != int(image_id):
        raise ValueError(f"'image_id' is {found}, the file is that of {image_id}.")
    masks = []
    for index, entry in enumerate(document["annotations"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("segmentation"), dict):
            raise ValueError(f'annotations[{index}] has no object "segmentation".')
        mask = {key: entry["segmentation"].get(key) for key in ("size", "counts")}
        # Their names in a record, on the right their names in the file.
        for name, key in (("predicted_iou", "predicted_iou"), ("stability", "stability_score")):
            if key in entry:
                mask[name] = entry[key]
        masks.append(mask)
    return Annotation(height, width, masks)


def _read_member(part: FilePart, image_id: str) -> Annotation:
    return read_sa1b_annotation(parse_json(part.read(MAX_ANNOTATION_BYTES)), image_id)
