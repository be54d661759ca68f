"""Losses of the three phases as pure functions of variables and batch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from uniovseg_jax.losses import clip, stage1, stage2
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.ops.colour import jitter_colours

# Parameters of the phase `clip` that only its loss uses: images to words of their captions.
WORD_HEAD = "word_head"

Batch = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]
# Variables, batch and one random key per example to the loss and what makes it up.
ComputeLoss = Callable[[Any, Batch, Key[Array, " b"]], tuple[Float[Array, ""], Metrics]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a phase minimises.

    Attributes:
      compute_loss: The loss of some examples. Each has a key of its own, so that what is drawn
        for it depends neither on the devices nor on the examples around it.
      prepare: Adds to the whole batch what its parts must know of each other, with the examples
        along the first axis. With it, loss and metrics of the parts of a batch add up to those of
        the whole; None where the loss compares all examples of a batch.
    """

    compute_loss: ComputeLoss
    prepare: Callable[[Batch], Batch] | None = None

    def __call__(self, variables: Any, batch: Batch, key: jax.Array) -> tuple[Array, Metrics]:
        """Returns loss and metrics of a whole batch."""
        return self.compute_loss(variables, *self.split_keys(batch, key))

    def split_keys(self, batch: Batch, key: jax.Array) -> tuple[Batch, Key[Array, " b"]]:
        """Returns the prepared batch and the keys of its examples."""
        keys = jax.random.split(key, len(jax.tree.leaves(batch)[0]))
        return (self.prepare(batch) if self.prepare else batch), keys


def make_clip_loss(
    model: UniOVSeg,
    mosaic_share: float = 0.0,
    word_weight: float = 0.0,
    rarity: Float[Array, " w"] | None = None,
) -> Objective:
    """Returns the symmetric contrastive loss over the whole batch, and that of the word head.

    The batch may be split among devices: the similarities are still those of all of its pairs.

    Args:
      model: The model whose CLIP trains.
      mosaic_share: Share of the pictures, 0 to 1 and rounded down to a multiple of four, that go
        through `CLIP.encode_mosaics`.
      word_weight: Weight of `losses.clip.word_loss`, for which the variables hold `WORD_HEAD`
        beside the model's own parameters.
      rarity: As `losses.clip.word_loss` takes it; None leaves that loss out.

    Raises:
      ValueError: If the share is no share.
    """
    if not 0 <= mosaic_share <= 1:
        raise ValueError(f"loss.mosaic_share is {mosaic_share}; expected 0 to 1.")

    def embed(model: UniOVSeg, images: Array, tokens: Array) -> tuple[Array, Array, Array]:
        tiled = int(mosaic_share * len(images)) // 4 * 4
        parts = []
        if tiled:
            parts.append(model.clip.encode_mosaics(images[:tiled]))
        if tiled < len(images):
            parts.append(model.clip.encode_image(images[tiled:]))
        return jnp.concatenate(parts), model.clip.encode_text(tokens), model.logit_scale()

    def compute_loss(variables: Any, batch: Batch, keys: jax.Array) -> tuple[Array, Metrics]:
        del keys
        outputs: Any = model.apply(variables, batch["image"], batch["tokens"], method=embed)
        image, text, logit_scale = outputs
        tokens = batch["tokens"]
        same_text = jnp.all(tokens[:, None] == tokens[None, :], axis=-1)
        loss = clip.clip_loss(image, text, logit_scale, same_text)
        metrics = {"contrastive": loss, "logit_scale": logit_scale}
        if rarity is not None:
            head = variables["params"][WORD_HEAD]
            logits = image @ head["kernel"] + head["bias"]
            metrics["words"] = clip.word_loss(logits, batch["caption"], rarity)
            loss += word_weight * metrics["words"]
        return loss, metrics

    return Objective(compute_loss)


def augmented_image(batch: Batch) -> Array:
    """Returns the images of a batch of stage 1 with the colours that were drawn for them."""
    if "colours" not in batch:
        return batch["image"]
    return jitter_colours(batch["image"], batch["colours"], batch["content_hw"])


def make_stage1_loss(model: UniOVSeg, config: stage1.Stage1LossConfig) -> Objective:
    """Returns the loss of one pass with points and one with boxes over the same images.

    A model without a quality head has no loss of quality, whatever `config` says.
    """
    if not model.config.quality_head:
        config = dataclasses.replace(config, iou_weight=0.0)

    def decode(model: UniOVSeg, batch: Batch) -> tuple[Any, Any, Array]:
        features = model.encode_image(augmented_image(batch))
        memory = model.prepare_masks(features)
        points = points_to_boxes(batch["points"], model.config.point_box_size)
        of_points = model.decode_masks(features, memory, points, "point")
        of_boxes = model.decode_masks(features, memory, batch["boxes"], "box")
        return of_points, of_boxes, memory.pixel_embeds

    def prepare(batch: Batch) -> Batch:
        return batch | stage1.pair_weights(batch, model.config.masks_per_point)

    def compute_loss(variables: Any, batch: Batch, keys: jax.Array) -> tuple[Array, Metrics]:
        outputs: Any = model.apply(variables, batch, method=decode)
        of_points, of_boxes, pixel_embeds = outputs
        return stage1.stage1_loss(of_points, of_boxes, pixel_embeds, batch, keys, config)

    return Objective(compute_loss, prepare)


def make_stage2_loss(model: UniOVSeg, name: str) -> Objective:
    """Returns the alignment loss of adapted region embeddings with their entities.

    A batch holds `text`, `entity` and `valid` for any number of leading axes, and what the adapter
    works on: for mode `pooled` the vectors `pooled`; for mode `dense` images and `masks` (logits of
    the regions, per image), whose maps are computed anew.

    Args:
      model: With an adapter.
      name: `cosine` (the paper's equation 8) or `contrastive`.

    Raises:
      ValueError: If there is no such loss.
    """
    if name not in ("cosine", "contrastive"):
        raise ValueError(f"loss.name is {name!r}; expected cosine or contrastive.")

    def embed(model: UniOVSeg, batch: Batch) -> tuple[Array, Array]:
        if "pooled" in batch:
            return model.embed_pooled(batch["pooled"], adapt=True), model.logit_scale()
        features = model.encode_image(batch["image"])
        return model.embed_regions(features, batch["masks"], adapt=True), model.logit_scale()

    def compute_loss(variables: Any, batch: Batch, keys: jax.Array) -> tuple[Array, Metrics]:
        del keys
        outputs: Any = model.apply(variables, batch, method=embed)
        adapted, logit_scale = outputs
        adapted, text = (x.reshape(-1, x.shape[-1]) for x in (adapted, batch["text"]))
        entity, valid = batch["entity"].ravel(), batch["valid"].ravel()
        cosine_loss = stage2.alignment_cosine_loss(adapted, text, valid)
        metrics = {"cosine": 1 - cosine_loss, "pairs": jnp.sum(valid)}
        if name == "cosine":
            return cosine_loss, metrics
        loss = stage2.alignment_contrastive_loss(adapted, text, entity, logit_scale, valid)
        return loss, metrics

    return Objective(compute_loss)
