"""The one generator of stage 2: images to proposals to region embeddings to costs, all frozen."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, Bool, Float, Int, UInt8

from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.masks import rle_encode
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.proposals import (
    ProposalConfig,
    Proposals,
    letterbox,
    make_proposer,
    pad_masks,
)
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained


@dataclasses.dataclass(frozen=True)
class AlignmentConfig:
    """How stage 2 finds its pairs.

    Attributes:
      proposals: Point grid, quality filter and suppression of the frozen stage-1 model.
      max_masks: Masks per image, the best ones; arrays are padded to few sizes up to this one.
      max_entities: Entities per image; arrays are padded to this number.
      cost: `cosine` takes 1 - cosine (the paper's equations 6 and 7); `prob` takes 1 - softmax of
        the scaled cosines over the image's entities (the authors' training source).
      topk: Share of an image's pairs that is kept, the cheapest ones, at least one.
      min_cosine: Pairs of a lower mean cosine are dropped; None keeps all. Needs cost `cosine`.
      confident_share: Share of all pairs that is trained on, those with the largest margins; see
        `pairs.choose_confident`. 1 keeps all.
      templates: Prompts around an entity, a key of `prompt_templates.TEMPLATES`.
      batch_size: Images per call of the device.
    """

    proposals: ProposalConfig = ProposalConfig()
    max_masks: int = 100
    max_entities: int = 16
    cost: str = "cosine"
    topk: float = 1.0
    min_cosine: float | None = None
    confident_share: float = 1.0
    templates: str = "vild14"
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError if a field is out of its range."""
        for name in ("topk", "confident_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected a share above 0 and up to 1."
                )
        if self.cost not in ("cosine", "prob"):
            raise ValueError(f"cost is {self.cost!r}; expected cosine or prob.")
        if self.min_cosine is not None and self.cost != "cosine":
            raise ValueError("min_cosine needs cosines; expected cost 'cosine'.")


CostsAndVectors = tuple[Float[Array, "b s n e"], dict[str, Float[Array, "b n _"]]]


def make_region_costs(model: UniOVSeg, cost: str) -> Callable[..., CostsAndVectors]:
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


class BoxedImage(NamedTuple):
    """An image as the network takes it.

    Attributes:
      pixels: Letterboxed.
      content_wh: Width and height of its content.
      image_wh: Width and height of the image before.
    """

    pixels: UInt8[np.ndarray, "S S 3"]
    content_wh: tuple[int, int]
    image_wh: tuple[int, int]


def box_image(image: UInt8[np.ndarray, "h w 3"], side: int) -> BoxedImage:
    """Letterboxes an image of any size."""
    pixels, content_wh = letterbox(image, side)
    return BoxedImage(pixels, content_wh, (image.shape[1], image.shape[0]))


@dataclasses.dataclass(frozen=True)
class Regions:
    """What the frozen model finds in one image.

    Attributes:
      caption: With the entities that costs are for.
      mask_logits: Of the proposals, at a quarter of the network input, best first.
      scores: Their predicted quality, 0..1.
      costs: Cost of every region and entity at every scale.
      pooled: Per source of the adapter (and `clip`) one pooled feature vector per region.
      boxed: The image.
    """

    caption: CaptionRecord
    mask_logits: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    costs: Float[np.ndarray, "s n e"]
    pooled: dict[str, Float[np.ndarray, "n _"]]
    boxed: BoxedImage

    def masks(self, regions: Int[np.ndarray, " k"]) -> tuple[dict[str, Any], ...]:
        """Returns the COCO run lengths of some regions, at the size of the image before."""
        side, (width, height) = self.boxed.pixels.shape[0], self.boxed.content_wh
        image_hw = self.boxed.image_wh[1], self.boxed.image_wh[0]
        full = FullSizeLogits(self.mask_logits, (side, side), (height, width), image_hw)
        return tuple(rle_encode(full.mask(k) >= 0) for k in regions.tolist())


@dataclasses.dataclass(frozen=True)
class PendingRegions:
    """The regions of some images, whose costs may still be in the making on the device."""

    captions: Sequence[CaptionRecord]
    images: Sequence[BoxedImage]
    proposals: Sequence[Proposals]
    results: CostsAndVectors
    max_masks: int

    def wait(self) -> list[Regions]:
        """Waits for the costs and cuts the padding off."""
        costs, pooled = jax.device_get(self.results)
        found = []
        for i, (caption, boxed) in enumerate(zip(self.captions, self.images, strict=True)):
            logits = self.proposals[i].mask_logits[: self.max_masks]
            n, e = len(logits), len(caption.entities)
            found.append(
                Regions(
                    caption=caption,
                    mask_logits=logits,
                    scores=np.asarray(self.proposals[i].ious[:n], np.float32),
                    costs=costs[i, :, :n, :e],
                    pooled={key: values[i, :n] for key, values in pooled.items()},
                    boxed=boxed,
                )
            )
        return found


class RegionGenerator:
    """Finds regions and their costs; nothing of it trains, so what it finds may be kept.

    Args:
      pretrained: A model with the parts `clip` and `masks`; an adapter is not used.
      config: How.
      encoder: Embeds entities, of the same model.

    Attributes:
      config: How.
      encoder: Of the entities.
      side: Of the network's input.
      width: Of embeddings.
    """

    def __init__(self, pretrained: Pretrained, config: AlignmentConfig, encoder: TextEncoder):
        self.config = config
        self.side = pretrained.config.image_size
        self.width = pretrained.config.clip.embed_dim
        self.encoder = encoder
        self._variables = pretrained.variables
        self._proposer = make_proposer(pretrained.model, config.proposals)
        self._compute = make_region_costs(pretrained.model, config.cost)

    def _usable(self, caption: CaptionRecord) -> CaptionRecord:
        """Returns a caption without entities that are too long for the text tower.

        Raises:
          ValueError: If it has more than `config.max_entities`.
        """
        if len(caption.entities) > self.config.max_entities:
            raise ValueError(
                f"Image {caption.id} has {len(caption.entities)} entities; expected at most "
                f"max_entities = {self.config.max_entities}."
            )
        fitting = tuple(e for e in caption.entities if self.encoder.fits(e.text))
        if len(fitting) == len(caption.entities):
            return caption
        logging.log_first_n(
            logging.WARNING,
            "Image %s has an entity that is too long for the text tower; it is left out.",
            10,
            caption.id,
        )
        return dataclasses.replace(caption, entities=fitting)

    def start(self, rows: Sequence[tuple[CaptionRecord, BoxedImage]]) -> PendingRegions:
        """Gives work to the device; while it computes costs, the host is free.

        Args:
          rows: Captions and images, between one and `config.batch_size`; fewer are filled up with
            copies of the last image, so that one size is compiled.

        Raises:
          ValueError: If a caption has more than `config.max_entities`.
        """
        captions = [self._usable(caption) for caption, _ in rows]
        images = [boxed for _, boxed in rows]
        missing = self.config.batch_size - len(images)
        boxed = [*images, *[images[-1]] * missing]
        pixels = np.stack([image.pixels for image in boxed])
        features = self._proposer.encode(self._variables, pixels)
        proposals = self._proposer.propose_from(
            self._variables, features, [image.image_wh for image in boxed]
        )
        masks = pad_masks([p.mask_logits for p in proposals], self.config.max_masks)
        vectors, valid = self._embed([caption.names for caption in captions])
        results = self._compute(self._variables, features, pixels, masks, vectors, valid)
        return PendingRegions(captions, images, proposals, results, self.config.max_masks)

    def _embed(
        self, entities: Sequence[Sequence[str]]
    ) -> tuple[Float[np.ndarray, "b e d"], Bool[np.ndarray, "b e"]]:
        """Embeds the entities of every image, padded with zeros."""
        shape = (self.config.batch_size, self.config.max_entities, self.width)
        padded, valid = np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
        for i, texts in enumerate(entities):
            if texts:
                padded[i, : len(texts)] = self.encoder.embed(texts)
                valid[i, : len(texts)] = True
        return padded, valid
