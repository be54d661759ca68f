"""The one generator of stage 2: images to proposals to region embeddings to costs, all frozen."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from uniovseg_jax.alignment.pairs import ImageRegions
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.masks import rle_encode
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.proposals import ProposalConfig, letterbox, make_proposer, pad_masks
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained

Record = tuple[str, UInt8[np.ndarray, "h w 3"], Sequence[str]]


@dataclasses.dataclass(frozen=True)
class AlignmentConfig:
    """How stage 2 finds its pairs.

    Attributes:
      proposals: Point grid, quality filter and suppression of the frozen stage-1 model.
      max_masks: Masks per image, the best ones; arrays are padded to few sizes up to this one.
      max_entities: Entities per image; arrays are padded to this number.
      cost: `cosine` takes 1 - cosine (the paper's equations 6 and 7); `prob` takes 1 - softmax of
        the scaled cosines over the image's entities (the authors' training source).
      confident_share: Share of all pairs that is trained on, those with the largest margins; see
        `pairs.choose_confident`. 1 keeps all.
      templates: Prompts around an entity, a key of `text_encoder.TEMPLATES`.
      batch_size: Images per call of the device.
    """

    proposals: ProposalConfig = ProposalConfig()
    max_masks: int = 100
    max_entities: int = 16
    cost: Literal["cosine", "prob"] = "cosine"
    confident_share: float = 1.0
    templates: str = "vild14"
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError if the share is not in (0, 1]."""
        if not 0 < self.confident_share <= 1:
            raise ValueError(
                f"confident_share is {self.confident_share}; expected a share above 0 and up to 1."
            )


CostsAndVectors = tuple[Float[Array, "b s n e"], dict[str, Float[Array, "b n _"]]]


def make_region_costs(
    model: UniOVSeg, cost: Literal["cosine", "prob"]
) -> Callable[..., CostsAndVectors]:
    """Returns `(variables, features, images, masks, entities, entity_valid) -> (costs, pooled)`.

    `features` are those of `encode_image` for the letterboxed `images` (uint8 "b S S 3"); the other
    scales of the model's `align_scales` go through the CLIP trunk only. `masks` are logits
    "b n h w", `entities` unit vectors "b e d"; padded entities do not take part in the softmax.
    `pooled` holds the main scale's vectors, as `UniOVSeg.pool_regions` gives them.
    """

    def region_costs(
        module: UniOVSeg,
        features: ImageFeatures,
        images: UInt8[Array, "b S S 3"],
        mask_logits: Float[Array, "b n h w"],
        entities: Float[Array, "b e d"],
        entity_valid: Bool[Array, "b e"],
    ) -> CostsAndVectors:
        config = module.config
        pooled = module.pool_regions(features, mask_logits)
        costs = []
        for side in config.align_scales:
            if side == config.image_size:
                regions = module.embed_pooled(pooled, adapt=False)
            else:
                shape = (images.shape[0], side, side, 3)
                # Antialiased, as PIL resizes pictures.
                resized = jax.image.resize(images.astype(jnp.float32), shape, "linear")
                trunk = module.clip.trunk_features(resized)
                regions = module.embed_regions(trunk, mask_logits, adapt=False)
            cosines = jnp.einsum("bnd,bed->bne", regions, entities)
            if cost == "cosine":
                costs.append(1.0 - cosines)
            else:
                logits = jnp.where(
                    entity_valid[:, None, :], module.clip.logit_scale() * cosines, -jnp.inf
                )
                costs.append(1.0 - jax.nn.softmax(logits, axis=-1))
        return jnp.stack(costs, axis=1), pooled

    return jax.jit(lambda variables, *inputs: model.apply(variables, *inputs, method=region_costs))


def generate_regions(
    pretrained: Pretrained,
    records: Iterable[Record],
    config: AlignmentConfig,
    encoder: TextEncoder,
) -> Iterator[ImageRegions]:
    """Yields every record with its proposals, their vectors and their costs.

    While the device works on a batch, the caller has the one before.

    Args:
      pretrained: A model with the parts `clip` and `masks`; an adapter is not used.
      records: (image id, RGB image of any size, entities).
      config: How.
      encoder: Embeds entities, of the same model.

    Raises:
      ValueError: If an image has more entities than the configuration allows.
    """
    model, variables = pretrained.model, pretrained.variables
    side, width = pretrained.config.image_size, pretrained.config.clip.embed_dim
    proposer = make_proposer(model, config.proposals)
    compute = make_region_costs(model, config.cost)

    waiting: _Batch | None = None
    for batch in _batches(records, config.batch_size):
        for image_id, _, entities in batch:
            if len(entities) > config.max_entities:
                raise ValueError(
                    f"Image {image_id} has {len(entities)} entities, more than max_entities = "
                    f"{config.max_entities}."
                )
        boxed = [letterbox(image, side) for _, image, _ in batch]
        # The last batch repeats its last image, so that one batch size is compiled.
        boxed += boxed[-1:] * (config.batch_size - len(batch))
        images = np.stack([image for image, _ in boxed])
        sizes = [(image.shape[1], image.shape[0]) for _, image, _ in batch]
        sizes += sizes[-1:] * (config.batch_size - len(batch))
        features = proposer.encode(variables, images)
        proposals = proposer.propose_from(variables, features, sizes)
        masks = pad_masks([p.mask_logits for p in proposals], config.max_masks)
        vectors, valid = _embed_entities([e for _, _, e in batch], config, encoder, width)
        results = compute(variables, features, images, masks, vectors, valid)
        if waiting is not None:
            yield from waiting.split()
        waiting = _Batch(batch, [wh for _, wh in boxed], proposals, results, side, config.max_masks)
    if waiting is not None:
        yield from waiting.split()


@dataclasses.dataclass(frozen=True)
class _Batch:
    """A batch whose results may still be in the making on the device."""

    records: Sequence[Record]
    contents_wh: Sequence[tuple[int, int]]
    proposals: Sequence[Any]
    results: CostsAndVectors
    side: int
    max_masks: int

    def split(self) -> Iterator[ImageRegions]:
        """Waits for the results and cuts the padding off."""
        costs, pooled = jax.device_get(self.results)
        for i, (image_id, image, entities) in enumerate(self.records):
            logits = self.proposals[i].mask_logits[: self.max_masks]
            n, e = len(logits), len(entities)
            width, height = self.contents_wh[i]
            full = FullSizeLogits(logits, (self.side, self.side), (height, width), image.shape[:2])
            yield ImageRegions(
                image_id=image_id,
                entities=tuple(entities),
                masks=tuple(rle_encode(full.mask(k) >= 0) for k in range(n)),
                scores=np.asarray(self.proposals[i].ious[:n], np.float32),
                costs=costs[i, :, :n, :e],
                pooled={key: values[i, :n] for key, values in pooled.items()},
            )


def _batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _embed_entities(
    entities: Sequence[Sequence[str]], config: AlignmentConfig, encoder: TextEncoder, width: int
) -> tuple[Float[np.ndarray, "b e d"], Bool[np.ndarray, "b e"]]:
    """Embeds the entities of every image as vectors of `width`, padded with zeros."""
    padded = np.zeros((config.batch_size, config.max_entities, width), np.float32)
    valid = np.zeros(padded.shape[:2], bool)
    for i, row in enumerate(entities):
        if row:
            padded[i, : len(row)] = encoder.embed(row)
            valid[i, : len(row)] = True
    return padded, valid
