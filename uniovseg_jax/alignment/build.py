"""Makes the pairs of a set of captioned images, or takes them from where they were kept."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tqdm

from uniovseg_jax.alignment.pairs import choose_confident, describe_pair, match_image
from uniovseg_jax.alignment.regions import AlignmentConfig, Record, generate_regions
from uniovseg_jax.alignment.store import (
    PairStore,
    StoreWriter,
    make_targets,
    open_store,
    region_vectors,
)
from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained, params_sha256


def caption_records(source: Any, caption: str = "refined") -> Iterator[Record]:
    """Yields (image id, image, entities) of a source of captioned images.

    Args:
      source: Random access to records with `id`, `image` and captions.
      caption: Key of the caption to parse.
    """
    for index in range(len(source)):
        record = source[index]
        yield (
            str(record["id"]),
            np.asarray(record["image"]),
            parse_rules(record[caption]),
        )


def build_pairs(
    pretrained: Pretrained,
    records: Iterable[Record],
    config: AlignmentConfig,
    directory: str | os.PathLike[str],
    source: Mapping[str, Any],
    total: int | None = None,
    progress: bool = True,
) -> PairStore:
    """Pairs the masks and entities of every image and keeps them.

    A finished store of the same settings is returned as it is; the records are not touched then.

    Args:
      pretrained: The frozen model, with the parts `clip` and `masks`.
      records: (image id, RGB image, entities); an image without entities gives no pairs.
      config: How pairs are found.
      directory: Of the store.
      source: JSON values that identify the records (data set, seed, split, number).
      total: Number of records, for the progress bar.
      progress: Whether to show one.

    Raises:
      ValueError: If the directory holds something else, or no image gave a pair.
    """
    frozen = {name: pretrained.variables[name] for name in ("params", "fixed")}
    frozen["params"] = {k: v for k, v in frozen["params"].items() if k != "adapter"}
    settings = {
        "source": dict(source),
        "config": dataclasses.asdict(config),
        "align_scales": list(pretrained.config.align_scales),
        "pooling": pretrained.config.pooling,
        "points_per_side": pretrained.config.points_per_side,
        "params_sha256": params_sha256(frozen),
    }
    if (store := open_store(directory, settings)) is not None:
        return store
    encoder = TextEncoder(pretrained, config.templates)
    rows: list[tuple[dict[str, np.ndarray], str]] = []
    margins: list[float] = []
    with StoreWriter(directory, settings) as writer:
        images = generate_regions(pretrained, records, config, encoder)
        for image in tqdm.tqdm(images, "pairs", total, disable=not progress, mininterval=1.0):
            pairs = match_image(image)
            writer.add(image, pairs)
            for region, entity in pairs.tolist():
                rows.append((region_vectors(image, region), image.entities[entity]))
                margins.append(describe_pair(image, region, entity).margin)
        if not rows:
            raise ValueError("No image gave a pair: no mask was kept or no entity was found.")
        confident = choose_confident(np.array(margins), config.confident_share)
        rows = [row for row, chosen in zip(rows, confident, strict=True) if chosen]
        names = sorted({name for _, name in rows})
        targets = make_targets(rows, names, encoder.embed(names))
        writer.finish(targets, confident)
    return PairStore(directory)
