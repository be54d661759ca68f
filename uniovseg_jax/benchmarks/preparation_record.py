"""What a preparation notes in its folder: that it is not finished, and how it made the labels."""

import dataclasses
import pathlib

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.data.mask_sources.source import MAX_ANNOTATION_BYTES, FilePart
from uniovseg_jax.files import make_folder, write_text_whole
from uniovseg_jax.json_fields import parse_json

# Folders that nothing but a preparation makes labels in.
_ONLY_PREPARED = "ADE20K_2021_17_01", "pascal_ctx_d2", "pascal_voc_d2"
_NO_RECORD = (
    "How the labels were prepared: {} is not there, so other code made them, or a preparation was "
    "not finished."
)
_UNKNOWN_59 = (
    "Whether the 59 classes were taken from PASCAL in Detail or from the full label maps (.mat) is "
    "not known; that both give the same pixels was not checked."
)
_FROM_MAPS_59 = (
    "The 59 classes were prepared from the full label maps (.mat); that the PASCAL in Detail "
    "annotations of trainval_merged.json give the same pixels was not checked."
)


@dataclasses.dataclass(frozen=True)
class Note:
    """A file that says that the preparation of a split is not finished.

    Attributes:
      folder: That is prepared.
      split: `train` or `val`.
      arguments: Of the command that finishes it, but for the data root.
    """

    folder: pathlib.Path
    split: str
    arguments: str

    def leave(self) -> None:
        """Writes it, before anything changes; the folder is made when needed."""
        path = _note(self.folder, self.split)
        if not path.is_file() or path.read_text(encoding="utf-8") != self.arguments:
            make_folder(self.folder)
            write_text_whole(path, self.arguments)

    def remove(self) -> None:
        """Removes it, last of all."""
        _note(self.folder, self.split).unlink(missing_ok=True)


def check_finished(folder: pathlib.Path, split: str) -> None:
    """Makes sure that no preparation was begun in a folder of the data root and not finished.

    What it had made by then would be scored as if it were the whole set.

    Raises:
      ValueError: If one was; it names the command that finishes it.
    """
    path = _note(folder, split)
    if path.is_file():
        raise ValueError(
            f"{path} says that the preparation of {split} is not finished; run `python "
            f"scripts/prepare_data.py {path.read_text(encoding='utf-8')} "
            f"--data_dir={folder.parent}` to its end."
        )


def with_preparation(benchmark: Benchmark, root: pathlib.Path, split: str) -> Benchmark:
    """Adds the record of the preparation of a benchmark's folder, and what it leaves open.

    Args:
      benchmark: With images in a folder of the data root.
      root: Data root.
      split: `train` or `val`.

    Raises:
      ValueError: If the record is damaged.
    """
    image = next(iter(benchmark.images.values()), None)
    # Rendered scenes are in no files of their own.
    if image is None or benchmark.read_image is not None or not image.is_relative_to(root):
        return benchmark
    folder = image.relative_to(root).parts[0]
    path = root / folder / f"prepared_{split}.json"
    record, notes = None, []
    if path.is_file():
        try:
            record = parse_json(FilePart(path).read(MAX_ANNOTATION_BYTES))
            if not isinstance(record, dict):
                raise ValueError("expected an object.")
        except ValueError as error:
            raise ValueError(f"{path} is no record of a preparation: {error}") from error
    elif folder in _ONLY_PREPARED:
        notes.append(_NO_RECORD.format(path.relative_to(root)))
    if benchmark.name == "pascal_context_59" and folder in _ONLY_PREPARED:
        source = None if record is None else record.get("classes_59_from")
        if source is None:
            notes.append(_UNKNOWN_59)
        elif ".mat" in str(source):
            notes.append(_FROM_MAPS_59)
    return dataclasses.replace(
        benchmark, preparation=record, unverified=(*benchmark.unverified, *notes)
    )


def _note(folder: pathlib.Path, split: str) -> pathlib.Path:
    return folder / f"unfinished_{split}.txt"
