"""Pairs of one image's masks and caption entities, each with the reasons for it."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from uniovseg_jax.matching import match_one_to_one


@dataclasses.dataclass(frozen=True)
class ImageRegions:
    """Everything frozen that stage 2 knows about one image.

    Attributes:
      image_id: Name of the image in its data set.
      entities: What the caption mentions.
      masks: COCO run lengths per region, at the size of the image.
      scores: Predicted quality per region, 0..1.
      costs: Cost of every region and entity at every scale; the matching takes the mean over
        scales. Cosine costs lie in 0..2, probability costs in 0..1.
      pooled: Per source of the adapter (and `clip`) one pooled feature vector per region.
    """

    image_id: str
    entities: tuple[str, ...]
    masks: tuple[dict[str, Any], ...]
    scores: Float[np.ndarray, " n"]
    costs: Float[np.ndarray, "s n e"]
    pooled: dict[str, Float[np.ndarray, "n _"]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """One region and one entity that were assigned to each other.

    Attributes:
      image_id: Where both come from.
      entity: The text.
      region: Index of the region within its image.
      mask: Its COCO run lengths.
      cost: Mean cost over scales.
      cost_per_scale: The same at each scale.
      other_entity: The entity with the next lowest cost for this region; None with one entity.
      other_entity_cost: Its cost.
      other_region: The region with the next lowest cost for this entity; None with one region.
      other_region_cost: Its cost.
      margin: How much dearer the nearer of the two alternatives is; negative where the joint
        assignment took something other than the best for one side, infinite without alternatives.
    """

    image_id: str
    entity: str
    region: int
    mask: dict[str, Any]
    cost: float
    cost_per_scale: tuple[float, ...]
    other_entity: str | None
    other_entity_cost: float | None
    other_region: int | None
    other_region_cost: float | None
    margin: float


def match_image(image: ImageRegions) -> Int[np.ndarray, "p 2"]:
    """Assigns regions and entities one to one at the least total cost.

    Returns:
      (region, entity) indices of min(n, e) pairs, ordered by entity.
    """
    if not image.masks or not image.entities:
        return np.zeros((0, 2), np.int32)
    regions, entities = match_one_to_one(image.costs.mean(axis=0))
    order = np.argsort(entities)
    return np.stack([regions[order], entities[order]], axis=1).astype(np.int32)


def choose_confident(margins: Float[np.ndarray, " p"], share: float) -> Bool[np.ndarray, " p"]:
    """Tells which pairs to trust: the share with the largest margins, at least one.

    A pair with an alternative that costs almost the same is a guess; the paper trains on "confident
    pairs" and states no rule. Equal margins are taken in their order.

    Args:
      margins: Of all pairs, see `Pair.margin`.
      share: How many to keep, above 0 and up to 1.
    """
    chosen = np.zeros(len(margins), bool)
    count = max(1, round(share * len(margins)))
    chosen[np.argsort(-margins, kind="stable")[:count]] = True
    return chosen


def describe_pair(image: ImageRegions, region: int, entity: int) -> Pair:
    """Returns a pair of an image with its cost and what came next."""
    costs = image.costs.mean(axis=0)
    cost = float(costs[region, entity])

    def next_best(values: np.ndarray, taken: int) -> int | None:
        order = [int(i) for i in np.argsort(values, kind="stable") if i != taken]
        return order[0] if order else None

    other_entity = next_best(costs[region], entity)
    other_region = next_best(costs[:, entity], region)
    entity_cost = None if other_entity is None else float(costs[region, other_entity])
    region_cost = None if other_region is None else float(costs[other_region, entity])
    return Pair(
        image_id=image.image_id,
        entity=image.entities[entity],
        region=region,
        mask=image.masks[region],
        cost=cost,
        cost_per_scale=tuple(float(c) for c in image.costs[:, region, entity]),
        other_entity=None if other_entity is None else image.entities[other_entity],
        other_entity_cost=entity_cost,
        other_region=other_region,
        other_region_cost=region_cost,
        margin=min((c for c in (entity_cost, region_cost) if c is not None), default=np.inf) - cost,
    )
