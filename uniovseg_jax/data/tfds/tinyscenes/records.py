"""What each part stores of a scene, and what the oracle file keeps apart."""

import io
import json
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image

from uniovseg_jax.data.tfds.tinyscenes.captions import Caption, make_caption
from uniovseg_jax.data.tfds.tinyscenes.scenes import MIN_MASK_PX, Scene, make_scene, scene_rng
from uniovseg_jax.data.tfds.tinyscenes.world import combination_id, make_world, stuff_id
from uniovseg_jax.masks import box_from_mask, rle_encode


def scene_id(part: str, split: str, index: int) -> str:
    """Stable name of a scene; also its key in the data set."""
    return f"{part}-{split}-{index:06d}"


def make_record(seed: int, part: str, split: str, index: int) -> dict[str, Any]:
    """Renders scene `index` of a part and encodes what the part may show of it."""
    rng = scene_rng(seed, part, split, index)
    scene = make_scene(seed, part, split, rng)
    record = {"id": scene_id(part, split, index), "image": _encode_jpeg(scene.image)}
    if part == "web":
        quality = "web" if split == "train" else "complete"
        record["caption"] = make_caption(scene, quality, make_world(seed).seen, rng).text
    elif part == "image_text":
        captions = _captions(seed, scene, rng)
        record |= {quality: caption.text for quality, caption in captions.items()}
    elif part == "image_mask":
        segments = [(level, mask) for level, mask, _ in _segments(scene)]
        record["masks"] = json.dumps(
            [{"level": level, **rle_encode(mask)} for level, mask in segments]
        )
    else:
        ids, segments_info = panoptic_truth(scene)
        record |= {"panoptic": _encode_ids(ids), "segments_info": json.dumps(segments_info)}
    return record


def make_oracle(seed: int, split: str, index: int) -> dict[str, Any]:
    """The true names behind an `image_text` scene, which no training record holds.

    Returns:
      `id`; `segments`, a list of {level: object | part | region, name, noun, thing (index of the
      thing, or -1 for a region), part (its name, or None), size, counts}; `entities`, per caption
      quality a list of {text, segments: indices of the object and region segments that it truly
      names; empty for a wrong noun or an invention}.
    """
    rng = scene_rng(seed, "image_text", split, index)
    scene = make_scene(seed, "image_text", split, rng)
    segments = [
        {"level": level, **names, **rle_encode(mask)} for level, mask, names in _segments(scene)
    ]
    return {
        "id": scene_id("image_text", split, index),
        "segments": segments,
        "entities": {
            quality: _entities(caption, segments)
            for quality, caption in _captions(seed, scene, rng).items()
        },
    }


def panoptic_truth(scene: Scene) -> tuple[Int[np.ndarray, "s s"], list[dict[str, Any]]]:
    """COCO panoptic truth: an id map (0 is void) and one entry per segment.

    Ids count from 1 within the scene; `category_id` indexes `world.JOINT_NAMES`.
    """
    ids = np.zeros(scene.owner.shape, np.int32)
    segments_info = []
    for level, mask, names in _segments(scene):
        if level == "part":
            continue
        segment_id = len(segments_info) + 1
        ids[mask] = segment_id
        is_thing = level == "object"
        category = (
            combination_id(*names["name"].split(" ")) if is_thing else stuff_id(names["name"])
        )
        left, top, right, bottom = (int(edge) for edge in box_from_mask(mask))
        segments_info.append(
            {
                "id": segment_id,
                "category_id": category,
                "isthing": int(is_thing),
                "area": int(mask.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
            }
        )
    return ids, segments_info


def _segments(scene: Scene) -> list[tuple[str, Bool[np.ndarray, "s s"], dict[str, Any]]]:
    """Every mask of at least `MIN_MASK_PX`: level, mask and true names."""
    found: list[tuple[str, Bool[np.ndarray, "s s"], dict[str, Any]]] = []
    for index, thing in enumerate(scene.things):
        names = {"name": thing.name, "noun": thing.noun, "thing": index}
        found.append(("object", scene.thing_mask(index), {**names, "part": None}))
        # A thing of one part is that part: one mask, not two equal ones.
        if len(thing.part_names) > 1:
            for part_index, part in enumerate(thing.part_names):
                mask = scene.part_mask(index, part_index)
                found.append(("part", mask, {**names, "part": part}))
    for index, name in enumerate(scene.stuff):
        names = {"name": name, "noun": name, "thing": -1, "part": None}
        found.append(("region", scene.stuff_mask(index), names))
    return [entry for entry in found if entry[1].sum() >= MIN_MASK_PX]


def _captions(seed: int, scene: Scene, rng: np.random.Generator) -> dict[str, Caption]:
    seen = make_world(seed).seen
    return {quality: make_caption(scene, quality, seen, rng) for quality in ("raw", "refined")}


def _entities(caption: Caption, segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    entities: dict[str, set[int]] = {}
    for mention in caption.mentions:
        # "ball" names every ball of the scene, "red ball" every red one.
        fits = {
            index
            for index, segment in enumerate(segments)
            if segment["level"] != "part" and mention.text in (segment["name"], segment["noun"])
        }
        entities.setdefault(mention.text, set()).update(fits if mention.correct else ())
    return [{"text": text, "segments": sorted(fits)} for text, fits in entities.items()]


def _encode_jpeg(image: np.ndarray) -> bytes:
    # Against PNG at its fastest, quality 90 without chroma subsampling takes a fifth of the space
    # and half the time to decode; sensor noise makes lossless storage pointless.
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def _encode_ids(ids: Int[np.ndarray, "s s"]) -> bytes:
    rgb = np.stack([ids & 255, (ids >> 8) & 255, ids >> 16], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
