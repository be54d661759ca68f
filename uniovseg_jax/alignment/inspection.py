"""Chooses what to show of a pair store: the best pairs, the worst, those that flip, by entity."""

import collections
import dataclasses
import heapq
from collections.abc import Callable, Iterator

import numpy as np
import tqdm
from jaxtyping import Float

from uniovseg_jax.alignment.pairs import Pair, describe_pairs
from uniovseg_jax.alignment.store import PairStore


@dataclasses.dataclass(frozen=True)
class Example:
    """A pair to show.

    Attributes:
      pair: With its provenance.
      preview: A small JPEG file of the image.
      is_confident: Whether an adapter trains on it.
    """

    pair: Pair
    preview: bytes
    is_confident: bool


@dataclasses.dataclass
class EntityRow:
    """What became of one entity.

    Attributes:
      count: Its pairs.
      confident: Those that an adapter trains on.
      flips: Those that a single scale would have paired otherwise.
      cost: Sum of their costs.
      margin: Sum of their margins that are finite.
      finite: Pairs with such a margin.
      examples: The first pairs, of the most frequent entities alone.
    """

    count: int = 0
    confident: int = 0
    flips: int = 0
    cost: float = 0.0
    margin: float = 0.0
    finite: int = 0
    examples: list[Example] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a report shows.

    Attributes:
      best: Pairs of the lowest costs.
      worst: Pairs of the highest costs.
      unsure: Pairs of the smallest margins.
      flipping: Pairs that flip between scales, those of the smallest margins.
      entities: Rows by entity, the most frequent first.
      margins: Of all pairs.
      confident_margins: Of those that an adapter trains on.
      num_flips: Pairs that flip between scales.
    """

    best: list[Example]
    worst: list[Example]
    unsure: list[Example]
    flipping: list[Example]
    entities: dict[str, EntityRow]
    margins: Float[np.ndarray, " p"]
    confident_margins: Float[np.ndarray, " c"]
    num_flips: int


def inspect(
    store: PairStore,
    num_extreme: int = 24,
    per_entity: int = 3,
    max_entities: int = 200,
    progress: bool = True,
) -> Inspection:
    """Reads a store twice: to count, and for the examples of frequent entities.

    Args:
      store: With images.
      num_extreme: Pairs to show of every kind.
      per_entity: Pairs to show of an entity.
      max_entities: Entities with examples.
      progress: Whether to show a progress bar.

    Raises:
      ValueError: If the store holds targets and no images.
    """
    if not store.manifest["shards"]:
        raise ValueError(f"{store.directory} holds targets and no images; nothing to look at.")
    best, worst, unsure, flipping = (_Smallest(num_extreme, key) for key in _KEYS)
    entities: dict[str, EntityRow] = collections.defaultdict(EntityRow)
    margins, confident = [], store.confident()
    num_flips = 0
    for example in _examples(store, "counting pairs", progress):
        pair, row = example.pair, entities[example.pair.entity]
        margins.append(pair.margin)
        for kind in (best, worst, unsure):
            kind.add(example)
        if any(pair.flips):
            num_flips += 1
            flipping.add(example)
        row.count += 1
        row.confident += example.is_confident
        row.flips += any(pair.flips)
        row.cost += pair.cost
        if np.isfinite(pair.margin):
            row.finite += 1
            row.margin += pair.margin
    order = sorted(entities, key=lambda name: (-entities[name].count, name))
    shown = set(order[:max_entities])
    for example in _examples(store, "choosing examples", progress):
        row = entities[example.pair.entity]
        if example.pair.entity in shown and len(row.examples) < per_entity:
            row.examples.append(example)
    every = np.array(margins)
    return Inspection(
        best=best.sorted(),
        worst=worst.sorted(),
        unsure=unsure.sorted(),
        flipping=flipping.sorted(),
        entities={name: entities[name] for name in order},
        margins=every,
        confident_margins=every[confident],
        num_flips=num_flips,
    )


def _examples(store: PairStore, what: str, progress: bool) -> Iterator[Example]:
    confident = iter(store.confident().tolist())
    total = store.manifest["counts"]["images"]
    for image in tqdm.tqdm(store.images(), what, total, disable=not progress, mininterval=1.0):
        for pair in describe_pairs(image.regions, image.pairs):
            yield Example(pair, image.preview, next(confident))


def _cost(pair: Pair) -> float:
    return pair.cost


def _negative_cost(pair: Pair) -> float:
    return -pair.cost


def _margin(pair: Pair) -> float:
    return pair.margin


_KEYS: tuple[Callable[[Pair], float], ...] = (_cost, _negative_cost, _margin, _margin)


class _Smallest:
    """Keeps the examples of the smallest keys, the earlier one of equals."""

    def __init__(self, count: int, key: Callable[[Pair], float]):
        self._count, self._key, self._seen = count, key, 0
        self._heap: list[tuple[float, int, Example]] = []

    def add(self, example: Example) -> None:
        entry = (-self._key(example.pair), -self._seen, example)
        self._seen += 1
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def sorted(self) -> list[Example]:
        return [example for *_, example in sorted(self._heap, key=lambda e: e[:2], reverse=True)]
