"""PASCAL VOC 2012 and PASCAL Context, prepared or as their owners ship them."""

import dataclasses
import pathlib
from collections.abc import Iterable

import numpy as np

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList, load_class_list
from uniovseg_jax.benchmarks.labels.label_maps import VOID_8, VOID_16, LabelMaps
from uniovseg_jax.benchmarks.semantic import Files, long_name, prepared_files, semantic_benchmark
from uniovseg_jax.data.mask_sources.source import MAX_ANNOTATION_BYTES, FilePart, is_plain_name
from uniovseg_jax.json_fields import parse_json

_MERGED_JSON_UNVERIFIED = (
    "That trainval_merged.json has a list `images` with `file_name` and `phase` was not checked "
    "against the real file.",
)
_CONTEXT_59_UNVERIFIED = (
    "The 59 classes were taken from the full label maps (.mat); that the PASCAL in Detail "
    "annotations of trainval_merged.json give the same pixels was not checked.",
)


def open_voc21(root: pathlib.Path, split: str) -> Benchmark:
    """PASCAL VOC with background as a class, PAS-21."""
    classes, files = load_class_list("voc_21"), _voc_files(root, split)
    labels = LabelMaps(files[1], classes.index_of, {VOID_8})
    return semantic_benchmark("pascal_voc21", root, files, labels, classes)


def open_voc20(root: pathlib.Path, split: str) -> Benchmark:
    """PASCAL VOC without background, PAS-20: its pixels are not scored."""
    classes = load_class_list("voc_20")
    if (root / "pascal_voc_d2" / "annotations_pascal20" / long_name(split)).is_dir():
        folders = "pascal_voc_d2/images", "pascal_voc_d2/annotations_pascal20"
        files = prepared_files(root, split, *folders, ".png")
        labels = LabelMaps(files[1], classes.numbered_by_index().index_of, {VOID_8})
    else:
        files = _voc_files(root, split)
        labels = LabelMaps(files[1], classes.index_of, {0, VOID_8})
    return semantic_benchmark("pascal_voc20", root, files, labels, classes)


def open_voc20b(root: pathlib.Path, split: str) -> Benchmark:
    """PASCAL VOC with a background that is told by the other names of PASCAL Context, PAS-20b.

    Source: OpenSeg (Ghiasi et al. 2022); CAT-Seg (Cho et al. 2024).
    """
    voc, context = load_class_list("voc_20"), load_class_list("pascal_context_59")
    classes = ClassList("voc_20_background", (*voc.classes, ClassInfo(0, "background")))
    own = {info.name for info in voc.classes}
    others = [info for info in context.classes if info.name not in own]
    # One name for each, as the protocol has it.
    words = [ClassInfo(n, info.name) for n, info in enumerate([*voc.classes, *others])]
    files = _voc_files(root, split)
    labels = LabelMaps(files[1], classes.index_of, {VOID_8})
    return dataclasses.replace(
        semantic_benchmark("pascal_voc20b", root, files, labels, classes),
        words=ClassList("voc_20_context_39", tuple(words)),
        folded=np.minimum(np.arange(len(words)), len(voc)).astype(np.int32),
    )


def open_voc21_threshold(root: pathlib.Path, split: str) -> Benchmark:
    """PASCAL VOC with a background of all pixels whose best class is not sure enough.

    What is sure enough is `merge.min_share` of configs/eval.py.

    Source: GroupViT (arXiv 2202.11094), whose number weakly supervised methods report.
    """
    words = load_class_list("voc_20")
    return dataclasses.replace(
        open_voc21(root, split),
        name="pascal_voc21_threshold",
        words=words,
        folded=np.arange(1, len(words) + 1, dtype=np.int32),
        void_class=0,
        unverified=(
            "The threshold of the background was not tuned; published scores of this form are "
            "those of thresholds that were, on this dataset.",
        ),
    )


def open_context59(root: pathlib.Path, split: str) -> Benchmark:
    """PASCAL Context with its 59 frequent classes, PC-59; no background."""
    name, classes = "pascal_context_59", load_class_list("pascal_context_59")
    folders = "pascal_ctx_d2/images", "pascal_ctx_d2/annotations_ctx59"
    if (root / folders[1] / long_name(split)).is_dir():
        files = prepared_files(root, split, *folders, ".png")
        labels = LabelMaps(files[1], classes.numbered_by_index().index_of, {VOID_8})
        return semantic_benchmark(name, root, files, labels, classes)
    files = _context_files(root, split, folders[1])
    everything = {0, *load_class_list("pascal_context_459").index_of}
    labels = LabelMaps(files[1], classes.index_of, everything - classes.index_of.keys())
    return dataclasses.replace(
        semantic_benchmark(name, root, files, labels, classes),
        unverified=_MERGED_JSON_UNVERIFIED + _CONTEXT_59_UNVERIFIED,
    )


def open_context459(root: pathlib.Path, split: str) -> Benchmark:
    """PASCAL Context with all its classes, PC-459."""
    name, classes = "pascal_context_459", load_class_list("pascal_context_459")
    folders = "pascal_ctx_d2/images", "pascal_ctx_d2/annotations_ctx459"
    if (root / folders[1] / long_name(split)).is_dir():
        files = prepared_files(root, split, *folders, ".tif")
        labels = LabelMaps(
            files[1], classes.numbered_by_index().index_of, {VOID_16}, sixteen_bit=True
        )
        return semantic_benchmark(name, root, files, labels, classes)
    files = _context_files(root, split, folders[1])
    labels = LabelMaps(files[1], classes.index_of, {0})
    return dataclasses.replace(
        semantic_benchmark(name, root, files, labels, classes),
        unverified=_MERGED_JSON_UNVERIFIED,
    )


def _voc_files(root: pathlib.Path, split: str) -> Files:
    """Lists labels that are 0 for background and 1 to 20, prepared or the devkit's."""
    folders = "pascal_voc_d2/images", "pascal_voc_d2/annotations_pascal21"
    if (root / folders[1] / long_name(split)).is_dir():
        return prepared_files(root, split, *folders, ".png")
    devkit = root / "VOCdevkit" / "VOC2012"
    names = devkit / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not names.is_file():
        raise FileNotFoundError(f"There is neither a folder {root / folders[1]} nor {names}.")
    stems = _plain(names.read_text(encoding="utf-8").split(), names)
    if not stems:
        raise ValueError(f"{names} names no image; expected one in each line.")
    return (
        {stem: devkit / "JPEGImages" / f"{stem}.jpg" for stem in stems},
        {stem: devkit / "SegmentationClass" / f"{stem}.png" for stem in stems},
    )


def _context_files(root: pathlib.Path, split: str, prepared: str) -> Files:
    """Lists the full label maps of a split, which only the merged annotations name."""
    devkit = root / "VOCdevkit" / "VOC2010"
    merged = devkit / "trainval_merged.json"
    if not merged.is_file():
        raise FileNotFoundError(f"There is neither a folder {root / prepared} nor {merged}.")
    document = parse_json(FilePart(merged).read(16 * MAX_ANNOTATION_BYTES))
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or not all(isinstance(entry, dict) for entry in images):
        raise ValueError(f'{merged}: expected an object with a list "images".')
    chosen = [entry.get("file_name") for entry in images if entry.get("phase") == split]
    stems = [pathlib.PurePath(name).stem for name in _plain(chosen, merged)]
    if not stems:
        raise ValueError(f"{merged} has no image whose phase is {split!r}.")
    return (
        {stem: devkit / "JPEGImages" / f"{stem}.jpg" for stem in stems},
        {stem: devkit / "trainval" / f"{stem}.mat" for stem in stems},
    )


def _plain(names: Iterable[object], where: pathlib.Path) -> list[str]:
    """Returns names in their order; they come from outside, and become names of files."""
    found = []
    for name in names:
        if not isinstance(name, str) or not is_plain_name(name):
            raise ValueError(f"{where} names an image {str(name)[:40]!r}; expected a plain name.")
        found.append(name)
    return sorted(set(found))
