"""The sets on which masks from prompts are scored: one row each, splits as SAM takes them.

Source of splits: SAM (arXiv 2304.02643), table 7. Of COCO and SegInW, which are not in its suite,
the validation split; those two are scored whole, the others on a sample if they are large.
"""

import functools
import pathlib
from collections.abc import Mapping

from uniovseg_jax.benchmarks.labels.coco_instances import CocoInstances
from uniovseg_jax.benchmarks.labels.instance_maps import InstanceMaps
from uniovseg_jax.benchmarks.labels.paired_files import pair_files
from uniovseg_jax.benchmarks.labels.polygons import OrderedPolygons
from uniovseg_jax.benchmarks.labels.value_maps import ValueMaps
from uniovseg_jax.benchmarks.labels.via_polygons import ViaPolygons
from uniovseg_jax.benchmarks.prompted_set import Labels, PromptedSet, PromptedSuite, Split

ISHAPE_PARTS = ("antenna", "branch", "fence", "hanger", "log", "wire")
# As the folders are called, spelling included.
SEGINW_PARTS = (
    "Airplane-Parts",
    "Bottles",
    "Brain-Tumor",
    "Chicken",
    "Cows",
    "Electric-Shaver",
    "Elephants",
    "Fruits",
    "Garbage",
    "Ginger-Garlic",
    "Hand",
    "Hand-Metal",
    "House-Parts",
    "HouseHold-Items",
    "Nutterfly-Squireel",
    "Phones",
    "Poles",
    "Puppies",
    "Rail",
    "Salmon-Fillet",
    "Strawberry",
    "Tablets",
    "Toolkits",
    "Trash",
    "Watermelon",
)
# Sets of any size that are not sampled.
SCORED_WHOLE = ("coco_instances", "seginw")


def _coco(images: pathlib.Path, annotations: pathlib.Path) -> Labels:
    if not images.is_dir():
        raise FileNotFoundError(f"There is no image folder {images}.")
    return CocoInstances(annotations, images)


def _coco_first_found(names: tuple[str, ...], images: pathlib.Path, folder: pathlib.Path) -> Labels:
    found = [folder / name for name in names if (folder / name).is_file()]
    return _coco(images, found[0] if found else folder / names[0])


def _instance_maps(images: pathlib.Path, maps: pathlib.Path, with_classes: bool = False) -> Labels:
    return InstanceMaps(pair_files(images, maps, ".png"), with_classes)


def _hands(prefixes: tuple[str, ...], images: pathlib.Path, maps: pathlib.Path) -> Labels:
    """Both hands 1 and 2, what they hold 3 to 5, and what that touches 6 to 8."""
    return ValueMaps(pair_files(images, maps, ".png", prefixes), range(1, 9))


def _woodscape(images: pathlib.Path, annotations: pathlib.Path) -> Labels:
    return OrderedPolygons(pair_files(images, annotations, ".json"))


def _streets(images: pathlib.Path, folder: pathlib.Path) -> Labels:
    """The owners' polygons; or, from who converted them, COCO's JSON or instance maps."""
    if (folder / "instance_map").is_dir():
        return _instance_maps(images, folder / "instance_map")
    if (folder / "annotations" / "instances.json").is_file():
        return _coco(images, folder / "annotations" / "instances.json")
    return ViaPolygons(folder / "annotations" / "vehicle-annotations.json", images)


def _ishape(images: pathlib.Path, folder: pathlib.Path) -> Labels:
    """Instance maps; without them COCO's JSON, whose name says train in every split."""
    if (folder / "instance_map").is_dir():
        return _instance_maps(images, folder / "instance_map")
    names = (
        "coco_format/instances_train2017.json",
        # The first is a link to this one, and links get lost.
        "coco_format-mask_encoding=rle-instances_2017.json",
    )
    return _coco_first_found(names, images, folder)


def _ishape_part(part: str) -> PromptedSet:
    # Antenna has photographs, 370 in all; the others were rendered in these numbers.
    counts = {"val": 500, "train": 2000} if part != "antenna" else {"val": None, "train": None}
    folders = {split: f"ishape_dataset/{part}/{split}" for split in counts}
    return PromptedSet(
        f"ishape/{part}",
        {
            split: Split(f"{folder}/image", folder, _ishape, counts[split])
            for split, folder in folders.items()
        },
        (
            "Whether 0 is the only value of iShape's instance maps that is no object was not "
            "checked against them.",
        ),
    )


def _seginw_part(part: str) -> PromptedSet:
    folders = {split: f"seginw/{part}/{split}" for split in ("valid", "train", "train_10shot")}
    return PromptedSet(
        f"seginw/{part}",
        {
            split: Split(folder, f"{folder}/_annotations_min1cat.coco.json", _coco)
            for split, folder in folders.items()
        },
    )


def _pidray(name: str, num_images: dict[str, int]) -> PromptedSet:
    def split(of: str) -> Split:
        test = "" if of == "train" else "test_"
        labels = f"{name}/annotations/xray_{test}{of}.json"
        return Split(f"{name}/{of}", labels, _coco, num_images[of])

    return PromptedSet(
        name,
        {of: split(of) for of in ("hard", "easy", "hidden", "train")},
        (
            "The layout is that of the release of 2021; that the one of 2023 has the same was not "
            "checked.",
        )
        if name.endswith("2023")
        else (),
    )


_TIMBERSEG_JSON = ("coco_annotation.json", "coco_annotation_rotated.json")
_SETS = (
    PromptedSet(
        "coco_instances",
        {
            split: Split(f"coco/{split}", f"coco/annotations/instances_{split}.json", _coco, count)
            for split, count in (("val2017", 5_000), ("train2017", 118_287))
        },
    ),
    PromptedSet(
        "ade20k_instances",
        {
            split: Split(
                f"ADEChallengeData2016/images/{split}",
                f"ADEChallengeData2016/annotations_instance/{split}",
                functools.partial(_instance_maps, with_classes=True),
                count,
            )
            for split, count in (("validation", 2_000), ("training", 20_210))
        },
        (
            "These are the objects of ADE20K's 100 instance classes; SAM took objects and parts of "
            "full ADE20K, and which of the two the paper took is not known.",
        ),
    ),
    PromptedSet(
        "egohos",
        {
            "train_ego4d_thu": Split(
                "egohos/train/image",
                "egohos/train/label",
                functools.partial(_hands, ("ego4d_", "thu_")),
            ),
            **{
                split: Split(
                    f"egohos/{split}/image",
                    f"egohos/{split}/label",
                    functools.partial(_hands, ("",)),
                )
                for split in ("train", "val", "test_indomain", "test_outdomain")
            },
        },
        (
            "That names of EgoHOS begin with ego4d_, thu_, epic_ or escape_ is read from its "
            "owners' scripts, not from the files that they offer.",
        ),
    ),
    PromptedSet(
        "timberseg",
        {
            split: Split(
                f"timberseg/{split}",
                f"timberseg/{split}",
                functools.partial(_coco_first_found, _TIMBERSEG_JSON),
                220,
            )
            for split in ("prescaled", "original")
        },
        (
            "coco_annotation.json is read, as by TimberSeg's owners, and coco_annotation_rotated."
            "json only without it; that both have the same masks was not checked.",
            "Which of TimberSeg's two image sizes SAM and the paper took is not known.",
        ),
    ),
    PromptedSet(
        "streets",
        {"all": Split("streets/vehicleannotations/images", "streets/vehicleannotations", _streets)},
        (
            "The form of STREETS' vehicle-annotations.json, that of the VGG Image Annotator, is "
            "read from its owners' code, not from the file.",
        ),
    ),
    PromptedSet(
        "ndispark",
        {
            split: Split(f"ndispark/{folder}/imgs", f"ndispark/{folder}/{file}", _coco, count)
            for split, folder, file, count in (
                ("train", "train", "train_coco_annotations.json", 112),
                ("val", "validation", "val_coco_annotations.json", 30),
            )
        },
        ("The file names of NDISPark are those of third-party code.",),
    ),
    PromptedSet(
        "woodscape",
        {"set1": Split("woodscape/rgb_images", "woodscape/instance_annotations", _woodscape)},
        (
            "Whether SAM's set 1 of WoodScape is all that its owners offer is not known.",
            "Masks are what is visible of a polygon, of all classes, void and the car's own body "
            "among them, drawn as COCO does; what SAM did with overlaps and classes is not known.",
        ),
    ),
    _pidray("pidray", {"train": 29_457, "easy": 9_482, "hard": 3_733, "hidden": 5_005}),
    _pidray("pidray_2023", {"train": 76_913, "easy": 24_758, "hard": 9_746, "hidden": 13_069}),
    PromptedSet(
        "trashcan",
        {
            split: Split(
                f"trashcan/dataset/instance_version/{split}",
                f"trashcan/dataset/instance_version/instances_{split}_trashcan.json",
                _coco,
                count,
            )
            for split, count in (("train", 6_065), ("val", 1_147))
        },
        ("The numbers of TrashCan's images are third-party ones.",),
    ),
)
_ISHAPE = tuple(map(_ishape_part, ISHAPE_PARTS))
_SEGINW = tuple(map(_seginw_part, SEGINW_PARTS))

# Opens a set by name, given the folder of all datasets and a split or None.
PROMPTED_SETS: Mapping[str, PromptedSet | PromptedSuite] = {
    **{row.name: row for row in (*_SETS, *_ISHAPE, *_SEGINW)},
    "ishape": PromptedSuite(_ISHAPE),
    "seginw": PromptedSuite(_SEGINW),
}
