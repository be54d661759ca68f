"""Losses of the three phases as pure functions of variables and batch, and the step around them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from uniovseg_jax import losses
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.train.optimizer import update_ema
from uniovseg_jax.train.state import TrainState, merge_variables

# Parameters of the phase `clip` that only its loss uses: images to words of their captions.
WORD_HEAD = "word_head"

Batch = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]
ComputeLoss = Callable[[Any, Batch, jax.Array], tuple[Float[Array, ""], Metrics]]


def make_train_step(
    compute_loss: ComputeLoss,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema_decay: float = 0.0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns the update of one batch, `(state, batch) -> (state, metrics)`.

    Gradients are taken for `state.params` only; nothing is differentiated or kept for the rest.
    Metrics are those of the loss, `loss`, `grad_norm` (before clipping) and `learning_rate`.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss_of(params: Any) -> tuple[Float[Array, ""], Metrics]:
            key = jax.random.fold_in(state.rng, state.step)
            return compute_loss(merge_variables(params, state.frozen), batch, key)

        (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = update_ema(ema, params, state.step, ema_decay)
        metrics = metrics | {
            "loss": loss,
            "grad_norm": optax.global_norm(grads),
            "learning_rate": schedule(state.step),
        }
        state = dataclasses.replace(
            state, step=state.step + 1, params=params, opt_state=opt_state, ema=ema
        )
        return state, metrics

    return step


def make_clip_loss(
    model: UniOVSeg,
    mosaic_share: float = 0.0,
    word_weight: float = 0.0,
    rarity: Float[Array, " w"] | None = None,
) -> ComputeLoss:
    """Returns the symmetric contrastive loss over the whole batch, and that of the word head.

    The batch may be split among devices: the similarities are still those of all of its pairs.

    Args:
      model: The model whose CLIP trains.
      mosaic_share: Share of the pictures, 0 to 1 and rounded down to a multiple of four, that go
        through `CLIP.encode_mosaics`.
      word_weight: Weight of `losses.word_loss`, for which the variables hold `WORD_HEAD` beside
        the model's own parameters.
      rarity: As `losses.word_loss` takes it; None leaves that loss out.

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

    def compute_loss(variables: Any, batch: Batch, key: jax.Array) -> tuple[Array, Metrics]:
        del key
        outputs: Any = model.apply(variables, batch["image"], batch["tokens"], method=embed)
        image, text, logit_scale = outputs
        tokens = batch["tokens"]
        same_text = jnp.all(tokens[:, None] == tokens[None, :], axis=-1)
        loss = losses.clip_loss(image, text, logit_scale, same_text)
        metrics = {"contrastive": loss, "logit_scale": logit_scale}
        if rarity is not None:
            head = variables["params"][WORD_HEAD]
            logits = image @ head["kernel"] + head["bias"]
            metrics["words"] = losses.word_loss(logits, batch["caption"], rarity)
            loss += word_weight * metrics["words"]
        return loss, metrics

    return compute_loss


def make_stage1_loss(model: UniOVSeg, config: losses.Stage1LossConfig) -> ComputeLoss:
    """Returns the loss of one pass with points and one with boxes over the same images."""

    def decode(model: UniOVSeg, batch: Batch) -> tuple[Any, Any, Array]:
        features = model.encode_image(batch["image"])
        memory = model.prepare_masks(features)
        points = points_to_boxes(batch["points"], model.config.point_box_size)
        of_points = model.decode_masks(features, memory, points, "point")
        of_boxes = model.decode_masks(features, memory, batch["boxes"], "box")
        return of_points, of_boxes, memory.pixel_embeds

    def compute_loss(variables: Any, batch: Batch, key: jax.Array) -> tuple[Array, Metrics]:
        # A key per example of the global batch: the draw does not depend on the devices.
        keys = jax.random.split(key, len(batch["image"]))
        outputs: Any = model.apply(variables, batch, method=decode)
        of_points, of_boxes, pixel_embeds = outputs
        return losses.stage1_loss(of_points, of_boxes, pixel_embeds, batch, keys, config)

    return compute_loss


def make_stage2_loss(model: UniOVSeg, name: str) -> ComputeLoss:
    """Returns the alignment loss of the adapted embeddings of pooled regions with their entities.

    Args:
      model: With an adapter of mode `pooled`.
      name: `cosine` (the paper's) or `contrastive`.

    Raises:
      ValueError: If there is no such loss.
    """
    if name not in ("cosine", "contrastive"):
        raise ValueError(f"loss.name is {name!r}; expected cosine or contrastive.")

    def embed(model: UniOVSeg, pooled: dict[str, Array]) -> tuple[Array, Array]:
        return model.embed_pooled(pooled, adapt=True), model.logit_scale()

    def compute_loss(variables: Any, batch: Batch, key: jax.Array) -> tuple[Array, Metrics]:
        del key
        outputs: Any = model.apply(variables, batch["pooled"], method=embed)
        adapted, logit_scale = outputs
        text, valid = batch["text"], jnp.ones(len(adapted), bool)
        cosine_loss = losses.alignment_cosine_loss(adapted, text, valid)
        metrics = {"cosine": 1 - cosine_loss}
        if name == "cosine":
            return cosine_loss, metrics
        loss = losses.alignment_contrastive_loss(adapted, text, batch["entity"], logit_scale, valid)
        return loss, metrics

    return compute_loss
