"""Tiny copies of every dataset with classes, as it is on a disk, with all its quirks.

Each `make_*` writes a few images below a data root and returns what the classes of their pixels
are, by image id: indices, -1 for void. Nothing here uses the readers.
"""

import json

import numpy as np
from PIL import Image
from scipy import io

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.masks import rle_encode

HW = (8, 10)


def write_image(path, rng, hw=HW, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*hw, 3), np.uint8)).save(path, **options)


def write_labels(path, values, dtype: type = np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert values.min() >= 0 and values.max() <= np.iinfo(dtype).max
    Image.fromarray(np.ascontiguousarray(values.astype(dtype))).save(path)


def write_palette(path, values):
    """As PASCAL VOC has it: colours that say nothing of the class but by the palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette(np.random.default_rng(9).permutation(768).astype(np.uint8).tolist())
    image.save(path)


def write_ids(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(path)


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def blocks(rng, values, hw=HW):
    """A map of 2 x 2 blocks, each of one of the values; all occur."""
    height, width = hw[0] // 2, hw[1] // 2
    drawn = rng.choice(values, height * width)
    drawn[: len(values)] = values
    return np.kron(rng.permutation(drawn).reshape(height, width), np.ones((2, 2), int))


def area_of(ids, number):
    return int(np.count_nonzero(ids == number))


def column_runs(mask):
    """Run lengths as COCO leaves those of crowds: not compressed."""
    pixels = np.concatenate([[0], mask.T.ravel().astype(int), [1 - int(mask.T.ravel()[-1])]])
    return {
        "size": list(mask.shape),
        "counts": np.diff(np.flatnonzero(np.diff(pixels)), prepend=0).tolist(),
    }


def categories_of(classes):
    """As the owners' files list them."""
    return [
        {"id": info.id, "name": info.name, "isthing": int(bool(info.isthing))}
        for info in classes.classes
    ]


def make_coco(root, split="val"):
    """Segment ids of three bytes, category ids with gaps, a crowd, ids of unlike length."""
    rng = np.random.default_rng(0)
    folder, year = root / "coco", f"{split}2017"
    # Category ids of the file, their places in the list of 133, and what is a thing.
    kinds = {1: 0, 13: 11, 90: 79, 92: 80, 200: 132}
    segments = {3: 1, 256 * 5: 13, 65536 * 9 + 7: 90, 65536 * 255: 92, 2**24 - 1: 200, 40: 1}
    images, annotations, instances, truth = [], [], [], {}
    for number in (2000, 139):
        name = f"{number:012d}"
        write_image(folder / year / f"{name}.jpg", rng)
        ids = blocks(rng, [0, *segments])
        write_ids(folder / f"panoptic_{year}" / f"{name}.png", ids)
        images.append({"id": number, "file_name": f"{name}.jpg", "height": 8, "width": 10})
        infos = [
            {"id": n, "category_id": category, "area": area_of(ids, n), "iscrowd": int(n == 40)}
            for n, category in segments.items()
        ]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": infos})
        for info in infos:
            if info["category_id"] > 90:
                continue
            mask = ids == info["id"]
            instances.append(
                {
                    "id": len(instances) + 1,
                    "image_id": number,
                    "category_id": info["category_id"],
                    "iscrowd": info["iscrowd"],
                    # Of polygons; not what pixels count to.
                    "area": info["area"] - 0.25,
                    "segmentation": column_runs(mask) if info["iscrowd"] else rle_encode(mask),
                }
            )
        truth[str(number)] = np.full(HW, -1)
        for n, category in segments.items():
            truth[str(number)][ids == n] = kinds[category]
    categories = categories_of(load_class_list("coco_panoptic_133"))
    write_json(
        folder / "annotations" / f"panoptic_{year}.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    things = [{"id": row["id"], "name": row["name"]} for row in categories if row["isthing"]]
    write_json(
        folder / "annotations" / f"instances_{year}.json",
        {"images": images, "annotations": instances, "categories": things},
    )
    return truth


def make_ade(root, split="val", detectron2=True):
    """0 is void and 150 the last class; stuff areas are counted before things are pasted."""
    rng = np.random.default_rng(1)
    long = {"train": "training", "val": "validation"}[split]
    folder, classes = root / "ADEChallengeData2016", load_class_list("ade20k_150")
    stuff = [index for index, info in enumerate(classes.classes) if not info.isthing]
    things = [index for index, info in enumerate(classes.classes) if info.isthing]
    images, annotations, instances, truth = [], [], [], {}
    for number in (1, 2):
        name = f"ADE_{split}_{number:08d}"
        write_image(folder / "images" / long / f"{name}.jpg", rng)
        values = blocks(rng, [0, 1, 150, stuff[3] + 1, stuff[-1] + 1, things[0] + 1])
        write_labels(folder / "annotations" / long / f"{name}.png", values)
        truth[name] = values - 1
        if detectron2:
            wrapped = np.where(values == 0, 255, values - 1)
            write_labels(folder / "annotations_detectron2" / long / f"{name}.png", wrapped)
        ids, infos = np.zeros(HW, int), []
        for index in np.unique(truth[name]):
            if index in stuff:
                ids[truth[name] == index] = 1000 + index
                area = area_of(truth[name], index)
                infos.append({"id": int(1000 + index), "category_id": int(index), "area": area})
        # One instance hides all of the class of stuff that is last, the other is anywhere.
        pasted = {
            70_000: (truth[name] == stuff[-1], things[0]),
            70_001: (np.pad(np.ones((3, 4), bool), ((2, 3), (1, 5))), things[-1]),
        }
        for n, (mask, _) in pasted.items():
            ids[mask] = n
        for n, (_, index) in pasted.items():
            area = area_of(ids, n)
            infos.append({"id": n, "category_id": index, "area": area})
            instances.append(
                {
                    "id": len(instances) + 1,
                    "image_id": name,
                    "category_id": index,
                    "iscrowd": 0,
                    "area": area,
                    "segmentation": rle_encode(ids == n),
                }
            )
        for info in infos:
            info["iscrowd"] = 0
        write_ids(folder / f"ade20k_panoptic_{split}" / f"{name}.png", ids)
        images.append({"id": name, "file_name": f"{name}.jpg", "height": 8, "width": 10})
        annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": infos})
    categories = categories_of(classes.numbered_by_index())
    for kind, entries in (("panoptic", annotations), ("instance", instances)):
        write_json(
            folder / f"ade20k_{kind}_{split}.json",
            {"images": images, "annotations": entries, "categories": categories},
        )
    return truth


def make_ade_full(root, split="val"):
    """16-bit TIFF files, 65535 void; 256 and more lose their class in 8 bits."""
    return _make_prepared(
        root / "ADE20K_2021_17_01", ("images_detectron2", "annotations_detectron2"), split, 847
    )


def make_context_prepared(root, split="val"):
    """Prepared PASCAL Context: the 459 classes in TIFF files, the 59 in PNG files."""
    folder = root / "pascal_ctx_d2"
    return {
        "pascal_context_459": _make_prepared(folder, ("images", "annotations_ctx459"), split, 459),
        "pascal_context_59": _make_prepared(folder, ("images", "annotations_ctx59"), split, 59),
    }


def _make_prepared(folder, names, split, count):
    rng = np.random.default_rng(count)
    long, truth = {"train": "training", "val": "validation"}[split], {}
    sixteen = count > 255
    for number in (4, 11):
        name = f"2008_{number:06d}"
        write_image(folder / names[0] / long / f"{name}.jpg", rng)
        index = blocks(rng, [-1, 0, 10, count // 2, count - 1])
        truth[name] = index
        values = np.where(index < 0, 65535 if sixteen else 255, index)
        path = folder / names[1] / long / f"{name}{'.tif' if sixteen else '.png'}"
        write_labels(path, values, np.uint16 if sixteen else np.uint8)
    return truth


def make_context_owners(root, split="val"):
    """LabelMap arrays of all images, and the JSON file that says which are of the split."""
    rng = np.random.default_rng(2)
    devkit = root / "VOCdevkit" / "VOC2010"
    small = load_class_list("pascal_context_59")
    truth = {"pascal_context_459": {}, "pascal_context_59": {}}
    entries = []
    for number in (2, 3, 8):
        name = f"2008_{number:06d}"
        phase = split if number != 3 else "train" if split == "val" else "val"
        entries.append({"file_name": f"{name}.jpg", "phase": phase, "image_id": number})
        write_image(devkit / "JPEGImages" / f"{name}.jpg", rng)
        # 2 and 458 are of the 59, 1 and 459 are not.
        values = blocks(rng, [0, 1, 2, 300, 458, 459])
        (devkit / "trainval").mkdir(parents=True, exist_ok=True)
        io.savemat(devkit / "trainval" / f"{name}.mat", {"LabelMap": values.astype(np.uint16)})
        if phase == split:
            truth["pascal_context_459"][name] = values - 1
            own = [small.index_of.get(int(v), -1) for v in values.ravel()]
            truth["pascal_context_59"][name] = np.reshape(own, HW)
    # The devkit has images that PASCAL Context knows nothing of.
    write_image(devkit / "JPEGImages" / "2010_000001.jpg", rng)
    write_json(devkit / "trainval_merged.json", {"images": entries, "annos_segmentation": []})
    return truth


def make_voc(root, split="val", prepared=False):
    """0 background, 1 to 20, 255 void; palette PNG files in the devkit, grey ones prepared."""
    rng = np.random.default_rng(3)
    devkit, folder = root / "VOCdevkit" / "VOC2012", root / "pascal_voc_d2"
    long = {"train": "training", "val": "validation"}[split]
    names = ("pascal_voc21", "pascal_voc21_threshold", "pascal_voc20", "pascal_voc20b")
    truth = {name: {} for name in names}
    names = ["2007_000033", "2011_003256"]
    for name in names:
        values = blocks(rng, [0, 1, 7, 20, 255])
        void = values == 255
        truth["pascal_voc21"][name] = np.where(void, -1, values)
        truth["pascal_voc21_threshold"][name] = truth["pascal_voc21"][name]
        truth["pascal_voc20"][name] = np.where(void | (values == 0), -1, values - 1)
        truth["pascal_voc20b"][name] = np.where(void, -1, np.where(values == 0, 20, values - 1))
        if prepared:
            write_image(folder / "images" / long / f"{name}.jpg", rng)
            write_labels(folder / "annotations_pascal21" / long / f"{name}.png", values)
            without = np.where(void | (values == 0), 255, values - 1)
            write_labels(folder / "annotations_pascal20" / long / f"{name}.png", without)
        else:
            write_image(devkit / "JPEGImages" / f"{name}.jpg", rng)
            write_palette(devkit / "SegmentationClass" / f"{name}.png", values)
    if not prepared:
        # Of the other split, and without any labels.
        write_image(devkit / "JPEGImages" / "2007_000032.jpg", rng)
        write_palette(devkit / "SegmentationClass" / "2007_000032.png", blocks(rng, [0, 1]))
        write_image(devkit / "JPEGImages" / "2012_004331.jpg", rng)
        lists = devkit / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(names))
    return truth


def make_cityscapes(root, split="val"):
    """Label ids, and a JSON file whose image names exist nowhere; a crowd of things."""
    rng = np.random.default_rng(4)
    folder, classes = root / "cityscapes", load_class_list("cityscapes_19")
    things = {info.id for info in classes.classes if info.isthing}
    images, annotations, truth = [], [], {}
    for city, number in (("frankfurt", 294), ("lindau", 0), ("frankfurt", 0)):
        name = f"{city}_000000_{number:06d}"
        write_image(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", rng)
        # Roads, persons (two and a group), caravans and the ego vehicle, which are not evaluated.
        numbers = blocks(rng, [0, 1, 7, 23, 24, 24001, 24002, 29000, 33000, 4])
        values = np.where(numbers < 1000, numbers, numbers // 1000)
        gt = folder / "gtFine" / split / city
        write_labels(gt / f"{name}_gtFine_labelIds.png", values)
        write_labels(gt / f"{name}_gtFine_instanceIds.png", numbers, np.uint16)
        write_image(gt / f"{name}_gtFine_color.png", rng)
        truth[name] = np.reshape([classes.index_of.get(int(v), -1) for v in values.ravel()], HW)
        ids, infos = np.where(truth[name] < 0, 0, numbers), []
        for n in np.unique(ids[ids > 0]).tolist():
            label = n if n < 1000 else n // 1000
            crowd = int(label in things and n < 1000)
            infos.append({"id": n, "category_id": label, "area": area_of(ids, n), "iscrowd": crowd})
        label_name = f"{name}_gtFine_panoptic.png"
        write_ids(folder / "gtFine" / f"cityscapes_panoptic_{split}" / label_name, ids)
        nowhere = f"{name}_gtFine_leftImg8bit.png"
        images.append({"id": name, "file_name": nowhere, "height": 8, "width": 10})
        annotations.append({"image_id": name, "file_name": label_name, "segments_info": infos})
    write_json(
        folder / "gtFine" / f"cityscapes_panoptic_{split}.json",
        {"images": images, "annotations": annotations, "categories": categories_of(classes)},
    )
    return truth


def make_folder(root, split="val"):
    """Ids with gaps, labels of 8 and of 16 bits, image suffixes of several kinds."""
    rng = np.random.default_rng(5)
    (root / "names.txt").write_text("0:grass,lawn\n3:red ball\n300:sky\n9:invalid_class_id")
    truth, index = {}, {0: 0, 3: 1, 300: 2, 255: -1, 65535: -1}
    for name, image, labels, values in (
        ("a", ".jpg", ".png", [0, 3, 255]),
        ("b", ".png", ".tif", [0, 3, 300, 65535]),
        ("c.d", ".webp", ".png", [3, 300]),
    ):
        write_image(root / "images" / split / f"{name}{image}", rng)
        drawn = blocks(rng, values)
        dtype = np.uint16 if max(values) > 255 else np.uint8
        write_labels(root / "labels" / split / f"{name}{labels}", drawn, dtype)
        truth[name] = np.reshape([index[int(v)] for v in drawn.ravel()], HW)
    return truth


def make_prompted(root, folder, count=2):
    """Images with instance maps of two objects each, as iShape has them."""
    rng = np.random.default_rng(len(folder))
    for number in range(count):
        write_image(root / folder / "image" / f"{number}.jpg", rng)
        ids = blocks(rng, [0, 1, 300])
        write_labels(root / folder / "instance_map" / f"{number}.png", ids, np.uint16)
