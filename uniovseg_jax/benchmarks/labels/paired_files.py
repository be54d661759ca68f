"""Images and their label files: two folders whose files belong together by stem."""

import dataclasses
import pathlib
from collections.abc import Mapping

from uniovseg_jax.data.mask_sources.folder import IMAGE_SUFFIXES, by_stem
from uniovseg_jax.files import first_of


@dataclasses.dataclass(frozen=True)
class PairedFiles:
    """Image and label files by image id, which is their stem, in the order of the ids."""

    images: Mapping[str, pathlib.Path]
    labels: Mapping[str, pathlib.Path]


def pair_files(
    images: pathlib.Path, labels: pathlib.Path, suffix: str, prefixes: tuple[str, ...] = ("",)
) -> PairedFiles:
    """Lists two folders of which every image has one label file, and the other way round.

    Args:
      images: Folder of the images.
      labels: Folder of the label files.
      suffix: Of the label files, such as ".png".
      prefixes: Only files whose names begin with one of these are listed.

    Raises:
      FileNotFoundError: If a folder is not there.
      ValueError: If a folder holds nothing of its kind, or a file lacks its other half: scoring
        what happens to be there would give the number of another set.
    """
    found = PairedFiles(
        _beginning_with(prefixes, images, IMAGE_SUFFIXES),
        _beginning_with(prefixes, labels, (suffix,)),
    )
    for here, there, folder in (
        (found.images, found.labels, labels),
        (found.labels, found.images, images),
    ):
        if missing := here.keys() - there.keys():
            raise ValueError(
                f"{folder} lacks a file for {first_of(missing)}; expected one label file for every "
                "image."
            )
    return found


def _beginning_with(
    prefixes: tuple[str, ...], folder: pathlib.Path, suffixes: tuple[str, ...]
) -> dict[str, pathlib.Path]:
    files = {k: path for k, path in by_stem(folder, suffixes).items() if k.startswith(prefixes)}
    if not files:
        raise ValueError(f"{folder} holds no file whose name begins with {' or '.join(prefixes)}.")
    return files
