"""Other pairs from what a store holds: other captions, fewer scales, adapted embeddings."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from uniovseg_jax.alignment.build import finish_store
from uniovseg_jax.alignment.pairs import ImageRegions, match_costs
from uniovseg_jax.alignment.store import PairStore, open_store, read_shard, shard_path
from uniovseg_jax.alignment.store_writer import StoreWriter
from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.text_encoder import EmbedTexts


def derive_pairs(
    store: PairStore,
    directory: str | os.PathLike[str],
    settings: Mapping[str, Any],
    change: Callable[[ImageRegions], ImageRegions],
    align_scales: Sequence[int],
    embed: EmbedTexts,
    confident_share: float,
) -> PairStore:
    """Matches a store's regions anew, under other costs or with other entities.

    A finished store of the same settings is returned as it is.

    Args:
      store: That keeps all regions, with cost `cosine`: the other one depends on all entities.
      directory: Of the new store.
      settings: JSON values that say what `change` does.
      change: Gives an image other costs or another caption.
      align_scales: Input sides of the costs that it leaves.
      embed: Unit embeddings of names.
      confident_share: Share of all pairs that is trained on.

    Raises:
      ValueError: If no image gives a pair, the cost is not `cosine`, regions that are needed were
        not kept, or there are costs of another number of scales.
    """
    config = {**store.settings["config"], "confident_share": confident_share}
    if config["cost"] != "cosine":
        raise ValueError(f"{store.directory} has cost {config['cost']}; expected cosine.")
    settings = {
        "of": store.settings,
        "config": config,
        "source": store.settings["source"],
        "align_scales": list(align_scales),
        **settings,
    }
    if (found := open_store(directory, settings)) is not None:
        return found
    writer = StoreWriter(directory, settings)
    num_shards = store.manifest["shards"]
    with writer.held():
        for number in range(num_shards):
            if writer.has_shard(number):
                continue
            images = []
            for stored in read_shard(shard_path(store.directory, number)):
                regions = change(stored.regions)
                if len(regions.costs) != len(align_scales):
                    raise ValueError(
                        f"Image {regions.image_id} has costs at {len(regions.costs)} scales; "
                        f"expected {len(align_scales)}."
                    )
                pairs = match_costs(regions.costs, config["topk"], config["min_cosine"])
                images.append(dataclasses.replace(stored, regions=regions, pairs=pairs))
            writer.write_shard(number, images)
        finish_store(writer, num_shards, confident_share, embed)
    return PairStore(directory)


def with_caption(image: ImageRegions, caption: CaptionRecord) -> ImageRegions:
    """Returns an image with some of its entities, those of another caption.

    Raises:
      ValueError: If the caption has an entity whose costs are not known.
    """
    known = {text: place for place, text in enumerate(image.entities)}
    unknown = [entity.text for entity in caption.entities if entity.text not in known]
    if unknown:
        raise ValueError(f"Image {image.image_id} has no costs of {', '.join(unknown)}.")
    places = [known[entity.text] for entity in caption.entities]
    return dataclasses.replace(image, caption=caption, costs=image.costs[:, :, places])


def with_scales(image: ImageRegions, scales: Sequence[int]) -> ImageRegions:
    """Returns an image with the costs of some scales, given by their places."""
    return dataclasses.replace(image, costs=image.costs[list(scales)])


def with_embeddings(
    image: ImageRegions,
    embed_regions: Callable[[dict[str, Float[np.ndarray, "n _"]]], Float[np.ndarray, "n e"]],
    embed: EmbedTexts,
) -> ImageRegions:
    """Returns an image with one cost: 1 - cosine of embeddings of its regions' kept vectors.

    Raises:
      ValueError: If not all vectors were kept.
    """
    if len(image.kept) != len(image.scores):
        raise ValueError(
            f"Image {image.image_id} has {len(image.scores)} regions of which {len(image.kept)} "
            "were kept; expected a store that keeps all."
        )
    costs = np.zeros((1, len(image.scores), len(image.entities)), np.float32)
    if costs.size:
        costs[0] = 1 - embed_regions(image.pooled) @ embed(list(image.entities)).T
    return dataclasses.replace(image, costs=costs)
