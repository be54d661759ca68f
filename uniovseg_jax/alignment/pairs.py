"""Pairs of one image's masks and caption entities, each with the reasons for it."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.matching import match_one_to_one


@dataclasses.dataclass(frozen=True)
class ImageRegions:
    """Everything frozen that stage 2 knows about one image.

    Attributes:
      caption: The image's name, its caption before and after, who made what, and the entities.
      scores: Predicted quality per region, 0..1.
      costs: Cost of every region and entity at every scale; the matching takes the mean over
        scales. Cosine costs lie in 0..2, probability costs in 0..1.
      kept: The regions that the fields below hold, ascending.
      masks: COCO run lengths of these, at the size of the image.
      pooled: Per source of the adapter (and `clip`) one pooled feature vector for each of these.
    """

    caption: CaptionRecord
    scores: Float[np.ndarray, " n"]
    costs: Float[np.ndarray, "s n e"]
    kept: Int[np.ndarray, " k"]
    masks: tuple[dict[str, Any], ...]
    pooled: dict[str, Float[np.ndarray, "k _"]]

    @property
    def image_id(self) -> str:
        """Name of the image in its data set."""
        return self.caption.id

    @property
    def entities(self) -> tuple[str, ...]:
        """What the caption mentions."""
        return self.caption.names

    def mask(self, region: int) -> dict[str, Any]:
        """Returns a region's mask.

        Raises:
          ValueError: If it was not kept.
        """
        return self.masks[self._row(region)]

    def vectors(self, region: int) -> dict[str, Float[np.ndarray, " _"]]:
        """Returns copies of a region's pooled vectors, which do not keep the image alive.

        Raises:
          ValueError: If they were not kept.
        """
        row = self._row(region)
        return {key: values[row].copy() for key, values in self.pooled.items()}

    def _row(self, region: int) -> int:
        row = int(np.searchsorted(self.kept, region))
        if row == len(self.kept) or self.kept[row] != region:
            raise ValueError(
                f"Region {region} of image {self.image_id} was not kept; expected a store that "
                "keeps all regions."
            )
        return row


@dataclasses.dataclass(frozen=True)
class Pair:
    """One region and one entity that were assigned to each other.

    Attributes:
      caption: Of the image that both come from.
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
        assignment took something other than the best for one side, infinite without alternatives,
        whatever the cost.
      flips: Whether the matching of a single scale pairs the entity with another region, per scale.
      other_mask: COCO run lengths of the other region; None also where it was not kept.
    """

    caption: CaptionRecord
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
    flips: tuple[bool, ...]
    other_mask: dict[str, Any] | None = None

    @property
    def image_id(self) -> str:
        """Name of the image in its data set."""
        return self.caption.id


def match_costs(
    costs: Float[np.ndarray, "s n e"], topk: float = 1.0, min_cosine: float | None = None
) -> Int[np.ndarray, "p 2"]:
    """Assigns the regions and entities of an image one to one at the least total cost.

    Args:
      costs: At every scale; their mean decides.
      topk: Share of the image's pairs to keep, the cheapest ones, at least one.
      min_cosine: Drop pairs of a lower mean cosine; costs must be 1 - cosine. None keeps all.

    Returns:
      (region, entity) indices of at most min(n, e) pairs, ordered by entity.

    Source: arXiv 2402.08960, equations 6 and 7, which keep all pairs.
    """
    mean = costs.mean(axis=0)
    if not mean.size:
        return np.zeros((0, 2), np.int32)
    regions, entities = match_one_to_one(mean, cosine=1 - mean, min_cosine=min_cosine, topk=topk)
    order = np.argsort(entities)
    return np.stack([regions[order], entities[order]], axis=1).astype(np.int32)


def choose_confident(margins: Float[np.ndarray, " p"], share: float) -> Bool[np.ndarray, " p"]:
    """Tells which pairs to trust: the share with the largest margins, at least one.

    A pair with an alternative that costs almost the same is a guess; the paper trains on "confident
    pairs" and states no rule. Equal margins are taken in their order.

    The one mask of an image with its one entity has no alternative and thus an infinite margin: it
    is trusted first, even where the two have nothing in common. `min_cosine` drops such pairs.

    Args:
      margins: Of all pairs, see `Pair.margin`.
      share: How many to keep, above 0 and up to 1.
    """
    chosen = np.zeros(len(margins), bool)
    count = max(1, round(share * len(margins)))
    chosen[np.argsort(-margins, kind="stable")[:count]] = True
    return chosen


def pair_margins(
    costs: Float[np.ndarray, "s n e"], pairs: Int[np.ndarray, "p 2"]
) -> Float[np.ndarray, " p"]:
    """Returns how much dearer than each pair its nearer alternative is, see `Pair.margin`.

    It is infinite for a lone pair, one mask and one entity, whatever its cost.
    """
    mean = costs.mean(axis=0)
    margins = np.full(len(pairs), np.inf)
    for row, (region, entity) in enumerate(pairs):
        of_region, of_entity = np.delete(mean[region], entity), np.delete(mean[:, entity], region)
        others = np.concatenate([of_region, of_entity])
        if others.size:
            margins[row] = others.min() - mean[region, entity]
    return margins


def regions_to_keep(
    costs: Float[np.ndarray, "s n e"], pairs: Int[np.ndarray, "p 2"]
) -> Int[np.ndarray, " k"]:
    """Returns the regions of an image's pairs and their `Pair.other_region`, ascending."""
    mean = costs.mean(axis=0)
    others = (_next_best(mean[:, entity], region)[0] for region, entity in pairs.tolist())
    return np.unique([*pairs[:, 0], *(k for k in others if k is not None)]).astype(np.int32)


def describe_pairs(image: ImageRegions, pairs: Int[np.ndarray, "p 2"]) -> list[Pair]:
    """Returns the pairs of an image with their costs and what came next."""
    mean = image.costs.mean(axis=0)
    margins = pair_margins(image.costs, pairs)
    of_scales = [dict(match_costs(costs[None])[:, ::-1].tolist()) for costs in image.costs]
    described = []
    for (region, entity), margin in zip(pairs.tolist(), margins.tolist(), strict=True):
        other_entity, entity_cost = _next_best(mean[region], entity)
        other_region, region_cost = _next_best(mean[:, entity], region)
        described.append(
            Pair(
                caption=image.caption,
                entity=image.entities[entity],
                region=region,
                mask=image.mask(region),
                cost=float(mean[region, entity]),
                cost_per_scale=tuple(float(c) for c in image.costs[:, region, entity]),
                other_entity=None if other_entity is None else image.entities[other_entity],
                other_entity_cost=entity_cost,
                other_region=other_region,
                other_region_cost=region_cost,
                margin=margin,
                flips=tuple(matched.get(entity) != region for matched in of_scales),
                other_mask=_mask_if_kept(image, other_region),
            )
        )
    return described


def _mask_if_kept(image: ImageRegions, region: int | None) -> dict[str, Any] | None:
    return None if region is None or region not in image.kept else image.mask(region)


def _next_best(costs: Float[np.ndarray, " n"], taken: int) -> tuple[int, float] | tuple[None, None]:
    if len(costs) == 1:
        return None, None
    others = np.where(np.arange(len(costs)) == taken, np.inf, costs)
    return int(np.argmin(others)), float(others.min())
