"""The pictures of the report: scenes with names, matched pairs, failures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from uniovseg_jax.alignment.pairs import ImageRegions, describe_pairs
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.data.tfds.tinyscenes import JOINT_NAMES, STUFF
from uniovseg_jax.demo.report import FailurePicture, PairPicture, ScenePicture
from uniovseg_jax.eval.oracle import OracleImage, count_correct_pairs
from uniovseg_jax.eval.scenes.images import PreparedImage
from uniovseg_jax.inference.results import Segmentation
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.visualize import distinct_colours, outline_mask, overlay
from uniovseg_jax.vocabulary import parse_vocabulary


def choose_words(words: str) -> dict[str, Any]:
    """Returns the arguments of `set_vocabulary` for the words that a user typed.

    Without words these are all names of the world. Otherwise every other name of the world is
    background, so that only what was asked for is marked; a bare noun stands for all its colours.

    Raises:
      ValueError: As `parse_vocabulary`.
    """
    if not words.strip():
        return {"names": list(JOINT_NAMES), "stuff": list(STUFF)}
    typed = {name.casefold() for name in parse_vocabulary(words).names}
    background = [
        name for name in JOINT_NAMES if name not in typed and name.split()[-1] not in typed
    ]
    entries = ["|".join(category.names) for category in parse_vocabulary(words).categories]
    return {
        "names": entries,
        "stuff": [name for name in STUFF if name in typed],
        "background": background,
    }


def choose_scenes(images: Sequence[PreparedImage], words: str, count: int = 3) -> list[int]:
    """Returns the scenes that hold most of the words; the first ones without words."""
    if not words.strip():
        return list(range(min(count, len(images))))
    typed = {name.casefold() for name in parse_vocabulary(words).names}

    def held(image: PreparedImage) -> int:
        names = {JOINT_NAMES[segment.category] for segment in image.segments}
        return len(typed & (names | {name.split()[-1] for name in names}))

    return sorted(range(len(images)), key=lambda i: -held(images[i]))[:count]


def draw_scene(
    title: str,
    image: UInt8[np.ndarray, "h w 3"],
    baseline: OpenVocabularySegmenter,
    aligned: OpenVocabularySegmenter,
) -> ScenePicture:
    """Segments a scene with both models, which have their vocabulary already."""
    before, after = baseline.segment(image), aligned.segment(image)
    return ScenePicture(
        title, image, draw_segments(image, before), draw_segments(image, after), after
    )


def draw_segments(
    image: UInt8[np.ndarray, "h w 3"], result: Segmentation
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws a result over its image, each name in a colour of its own."""
    return _draw(image, result.label_map, {s.id: s.name for s in result.segments})


def draw_failure(
    title: str, image: PreparedImage, accuracy: float, aligned: OpenVocabularySegmenter
) -> FailurePicture:
    """Draws the truth of a scene beside what was found; `aligned` has the joint vocabulary."""
    truth = {segment.id: JOINT_NAMES[segment.category] for segment in image.segments}
    return FailurePicture(
        title=title,
        accuracy=accuracy,
        truth=_draw(image.image, image.ids, truth),
        predicted=draw_segments(image.image, aligned.segment(image.image)),
    )


def draw_pairs(
    store: PairStore, source: Any, oracle: Mapping[str, Any], count: int = 12
) -> list[PairPicture]:
    """Draws pairs of the first images of a source, spread evenly from the cheapest to the dearest.

    Args:
      store: The pairs.
      source: The captioned images that they were made from.
      oracle: The true names, which only judge the pairs drawn.
      count: How many to draw.
    """
    images = {
        record["id"]: record["image"]
        for record in (source[i] for i in range(min(150, len(source))))
    }
    found: list[tuple[float, ImageRegions, int, int]] = []
    for stored in store.images():
        image = stored.regions
        if image.image_id in images:
            costs = image.costs.mean(axis=0)
            found += [(float(costs[r, e]), image, r, e) for r, e in stored.pairs.tolist()]
    found.sort(key=lambda entry: entry[0])
    places = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).astype(int))
    return [
        _draw_pair(images[image.image_id], image, region, entity, oracle)
        for _, image, region, entity in (found[place] for place in places.tolist())
    ]


def _draw_pair(
    picture: UInt8[np.ndarray, "h w 3"],
    image: ImageRegions,
    region: int,
    entity: int,
    oracle: Mapping[str, Any],
) -> PairPicture:
    [pair] = describe_pairs(image, np.array([[region, entity]]))
    segments = list(oracle[image.image_id]["segments"])
    joined = OracleImage.of_image(image, np.array([[region, entity]]), segments)
    strict, with_parts = count_correct_pairs(joined)
    verdict = "right" if strict else "part" if with_parts else "wrong"
    return PairPicture(pair, outline_mask(picture, rle_decode(pair.mask)), verdict)


def _draw(
    image: UInt8[np.ndarray, "h w 3"], ids: Int[np.ndarray, "h w"], names: Mapping[int, str]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws segments of arbitrary ids; equal names get equal colours."""
    order = sorted(names)
    unique = _unique(names[i] for i in order)
    colours = distinct_colours(unique)
    label_map = np.zeros(ids.shape, np.int32)
    for label, i in enumerate(order, start=1):
        label_map[ids == i] = label
    palette = np.array([colours[unique.index(names[i])] for i in order], np.uint8).reshape(-1, 3)
    captions = {label: names[i] for label, i in enumerate(order, start=1)}
    return overlay(image, label_map, palette, captions)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
