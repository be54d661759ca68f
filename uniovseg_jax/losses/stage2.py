"""Losses of phase `stage2`: regions against the texts of their entities."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def alignment_cosine_loss(
    adapted: Float[Array, "p e"], text: Float[Array, "p e"], valid: Bool[Array, " p"]
) -> Float[Array, ""]:
    """Mean of 1 - cosine over valid pairs of L2-normalised embeddings; 0 when there is none."""
    cosine = jnp.sum(adapted.astype(jnp.float32) * text.astype(jnp.float32), axis=-1)
    return jnp.sum(jnp.where(valid, 1 - cosine, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def alignment_contrastive_loss(
    adapted: Float[Array, "p e"],
    text: Float[Array, "p e"],
    entity_ids: Int[Array, " p"],
    logit_scale: Float[Array, ""],
    valid: Bool[Array, " p"],
) -> Float[Array, ""]:
    """Cross-entropy of each region over the distinct entities of the batch.

    An entity that occurs several times counts once, so that no region is pushed away from its own
    name. Invalid pairs are neither regions nor entities.
    """
    logits = logit_scale * adapted.astype(jnp.float32) @ text.astype(jnp.float32).T
    same = (entity_ids[:, None] == entity_ids[None, :]) & valid[None, :]
    first = jnp.argmax(same, axis=1)
    distinct = valid & (first == jnp.arange(len(first)))
    log_total = jax.nn.logsumexp(logits, axis=1, where=distinct[None, :])
    own = jnp.take_along_axis(logits, first[:, None], axis=1)[:, 0]
    return jnp.sum(jnp.where(valid, log_total - own, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
