"""The datasets with classes: where their files are, and which of them is read for what.

Where an owner's files can be read as they are, they are; otherwise the layouts are those that
detectron2's users prepare, and `preparation/` makes them.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.check import check_pairs
from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList, load_class_list
from uniovseg_jax.benchmarks.labels.coco_instances import CocoInstances
from uniovseg_jax.benchmarks.labels.label_maps import VOID_8, VOID_16, LabelMaps
from uniovseg_jax.benchmarks.labels.panoptic_maps import PanopticMaps
from uniovseg_jax.benchmarks.pascal import (
    open_context59,
    open_context459,
    open_voc20,
    open_voc20b,
    open_voc21,
    open_voc21_threshold,
)
from uniovseg_jax.benchmarks.preparation_record import check_finished
from uniovseg_jax.benchmarks.rendered import open_tinyscenes
from uniovseg_jax.benchmarks.semantic import long_name, prepared_files, semantic_benchmark
from uniovseg_jax.data.mask_sources.folder import IMAGE_SUFFIXES, by_stem
from uniovseg_jax.vocabulary import read_class_lines

# Values of Cityscapes' label maps, of which 19 are scored.
_CITYSCAPES_VALUES = range(34)
_CITYSCAPES_AP_UNVERIFIED = (
    "Instance AP is COCO's rule on the things of the panoptic files; Cityscapes' own script reads "
    "other files by other rules, and how far both numbers lie apart was not checked.",
)


def open_coco_panoptic(root: pathlib.Path, split: str) -> Benchmark:
    """COCO 2017 with 80 things and 53 kinds of stuff; semantic labels are painted from segments."""
    long_name(split)
    folder, year = root / "coco", f"{split}2017"
    classes = load_class_list("coco_panoptic_133")
    maps = PanopticMaps(folder / "annotations" / f"panoptic_{year}.json", classes)
    files = by_stem(folder / year, (".jpg",))
    ids = {pathlib.PurePath(name).stem: image_id for image_id, name in maps.file_names.items()}
    check_pairs(files, ids, maps.path)
    benchmark = Benchmark(
        name="coco_panoptic",
        images={ids[stem]: path for stem, path in files.items()},
        read_semantic=maps.semantic,
        read_panoptic=maps.read,
        classes=classes,
        read_sizes=maps.hw,
    )
    return _with_instances(benchmark, folder / "annotations" / f"instances_{year}.json", classes)


def open_ade20k_150(root: pathlib.Path, split: str) -> Benchmark:
    """ADE20K's 150 classes; segments and instances where their files were prepared."""
    folder, long = root / "ADEChallengeData2016", long_name(split)
    check_finished(folder, split)
    classes = load_class_list("ade20k_150")
    images = by_stem(folder / "images" / long, (".jpg",))
    if (folder / "annotations_detectron2" / long).is_dir():
        files = by_stem(folder / "annotations_detectron2" / long, (".png",))
        labels = LabelMaps(files, classes.numbered_by_index().index_of, {VOID_8})
    else:
        files = by_stem(folder / "annotations" / long, (".png",))
        labels = LabelMaps(files, classes.index_of, {0})
    benchmark = semantic_benchmark("ade20k_150", folder, (images, files), labels, classes)
    # The files that are made number categories by their indices.
    categories = classes.numbered_by_index()
    benchmark = _with_panoptic(benchmark, folder / f"ade20k_panoptic_{split}.json", categories)
    return _with_instances(benchmark, folder / f"ade20k_instance_{split}.json", categories)


def open_ade20k_847(root: pathlib.Path, split: str) -> Benchmark:
    """ADE20K's 847 classes, A-847, at the size of the prepared images."""
    classes, folder = load_class_list("ade20k_847"), "ADE20K_2021_17_01"
    folders = f"{folder}/images_detectron2", f"{folder}/annotations_detectron2"
    files = prepared_files(root, split, *folders, ".tif")
    labels = LabelMaps(files[1], classes.numbered_by_index().index_of, {VOID_16}, sixteen_bit=True)
    return semantic_benchmark("ade20k_847", root / folder, files, labels, classes)


def open_cityscapes(root: pathlib.Path, split: str) -> Benchmark:
    """Cityscapes' 19 classes; instances are the segments of things, where segments were prepared.

    The official instance score reads other files by its own rules.
    """
    long_name(split)
    folder, classes = root / "cityscapes", load_class_list("cityscapes_19")
    check_finished(folder, split)
    images = _by_city(folder / "leftImg8bit" / split, "_leftImg8bit.png")
    files = _by_city(folder / "gtFine" / split, "_gtFine_labelIds.png")
    void = set(_CITYSCAPES_VALUES) - classes.index_of.keys()
    labels = LabelMaps(files, classes.index_of, void)
    benchmark = dataclasses.replace(
        semantic_benchmark("cityscapes", folder, (images, files), labels, classes),
        resize=(1024, 2560),
        label_names={name: f"{path.parent.name}/{path.stem}" for name, path in files.items()},
    )
    # Images by their ids: the names of images in that file exist nowhere.
    json_path = folder / "gtFine" / f"cityscapes_panoptic_{split}.json"
    benchmark = _with_panoptic(benchmark, json_path, classes)
    if benchmark.read_instances is None:
        return benchmark
    return dataclasses.replace(benchmark, unverified=_CITYSCAPES_AP_UNVERIFIED)


def open_folder(root: pathlib.Path, split: str) -> Benchmark:
    """Anybody's label maps: `images/`, `labels/` (PNG or TIFF) and `names.txt` in the data root.

    A line of `names.txt` is a class, `name1,name2` or `id:name1,name2`; without ids, the first line
    is the value 0. Void are ids that the file calls `invalid_class_id`, and 255 and 65535 unless a
    class has that id. Either folder may have one folder per split.
    """
    lines = read_class_lines(root / "names.txt")
    infos = [
        ClassInfo(number if line.id is None else line.id, line.names[0], line.names[1:])
        for number, line in enumerate(lines)
        if not line.is_placeholder
    ]
    if not infos:
        raise ValueError(f"{root / 'names.txt'} holds no class; expected one in each line.")
    classes = ClassList(root.name, tuple(infos))
    void = {VOID_8, VOID_16}
    void |= {
        number if line.id is None else line.id
        for number, line in enumerate(lines)
        if line.is_placeholder
    }
    largest = max(info.id for info in infos)
    if largest > VOID_16:
        raise ValueError(
            f"{root / 'names.txt'} has a class {largest}; expected ids of up to {VOID_16}, which "
            "16 bits hold."
        )
    images, files = (
        by_stem(part / split if (part / split).is_dir() else part, suffixes)
        for part, suffixes in (
            (root / "images", IMAGE_SUFFIXES),
            (root / "labels", (".png", ".tif", ".tiff")),
        )
    )
    labels = LabelMaps(files, classes.index_of, void - classes.index_of.keys())
    return semantic_benchmark("folder", root, (images, files), labels, classes)


def _with_panoptic(
    benchmark: Benchmark, json_path: pathlib.Path, categories: ClassList
) -> Benchmark:
    """Adds segments, and their things as instances, if the file is there."""
    if not json_path.is_file():
        return dataclasses.replace(
            benchmark, missing={"panoptic": json_path, "instance": json_path}
        )
    maps = PanopticMaps(json_path, categories)
    check_pairs(benchmark.images, maps.file_names, json_path)
    return dataclasses.replace(
        benchmark,
        read_panoptic=maps.read,
        read_instances=maps.instances,
        file_ids={**benchmark.file_ids, "panoptic": _ids(categories), "instance": _ids(categories)},
        read_sizes=_same_size(benchmark.read_sizes, maps.hw, json_path),
    )


def _with_instances(
    benchmark: Benchmark, json_path: pathlib.Path, categories: ClassList
) -> Benchmark:
    """Adds the instances of COCO's form, if the file is there."""
    if not json_path.is_file():
        if benchmark.read_instances is not None:
            return benchmark
        return dataclasses.replace(benchmark, missing={**benchmark.missing, "instance": json_path})
    coco = CocoInstances(json_path, pathlib.Path(), categories)
    check_pairs(benchmark.images, coco.images, json_path)
    return dataclasses.replace(
        benchmark,
        read_instances=coco.instances,
        missing={task: path for task, path in benchmark.missing.items() if task != "instance"},
        file_ids={**benchmark.file_ids, "instance": _ids(categories)},
        read_sizes=_same_size(benchmark.read_sizes, coco.hw, json_path),
    )


def _ids(classes: ClassList) -> tuple[int, ...]:
    return tuple(info.id for info in classes.classes)


def _same_size(
    first: Callable[[str], tuple[int, int]] | None,
    second: Callable[[str], tuple[int, int]],
    where: pathlib.Path,
) -> Callable[[str], tuple[int, int]]:
    """Reads sizes that two files state, and makes sure that they agree."""

    def read(image_id: str) -> tuple[int, int]:
        hw = second(image_id)
        other = hw if first is None else first(image_id)
        if hw != other:
            raise ValueError(
                f"{where}: labels of {image_id!r} have {hw[0]} x {hw[1]} pixels, other labels of "
                f"that image {other[0]} x {other[1]}."
            )
        return hw

    return read


def _by_city(folder: pathlib.Path, ending: str) -> dict[str, pathlib.Path]:
    """Lists files of all cities by what is before the ending: city, sequence and frame."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found = {path.name.removesuffix(ending): path for path in sorted(folder.glob(f"*/*{ending}"))}
    if not found:
        raise ValueError(f"{folder} holds no folder of a city with files *{ending}.")
    return found


NAMED: Mapping[str, Callable[[pathlib.Path, str], Benchmark]] = {
    "coco_panoptic": open_coco_panoptic,
    "ade20k_150": open_ade20k_150,
    "ade20k_847": open_ade20k_847,
    "pascal_context_59": open_context59,
    "pascal_context_459": open_context459,
    "pascal_voc21": open_voc21,
    "pascal_voc21_threshold": open_voc21_threshold,
    "pascal_voc20": open_voc20,
    "pascal_voc20b": open_voc20b,
    "cityscapes": open_cityscapes,
    "folder": open_folder,
    "tinyscenes": open_tinyscenes,
}
