"""Losses of phase `clip`: pictures against captions, and against the words of captions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def clip_loss(
    image_embeds: Float[Array, "b e"],
    text_embeds: Float[Array, "b e"],
    logit_scale: Float[Array, ""],
    same_text: Bool[Array, "b b"] | None = None,
) -> Float[Array, ""]:
    """Symmetric cross-entropy of a batch of image-text pairs.

    Args:
      image_embeds: L2-normalised.
      text_embeds: L2-normalised.
      logit_scale: Factor on cosines.
      same_text: Which captions are the same; such pairs are no negatives of each other. None when
        all differ.
    """
    logits = logit_scale * image_embeds.astype(jnp.float32) @ text_embeds.astype(jnp.float32).T
    own = jnp.eye(len(logits), dtype=bool)
    counted = None if same_text is None else own | ~same_text
    of_images = jax.nn.logsumexp(logits, axis=1, where=counted)
    of_texts = jax.nn.logsumexp(logits, axis=0, where=counted)
    return jnp.mean((of_images + of_texts) / 2 - jnp.diagonal(logits))


def word_loss(
    word_logits: Float[Array, "b w"], tokens: Int[Array, "b t"], rarity: Float[Array, " w"]
) -> Float[Array, ""]:
    """Cross-entropy of images with the bag of words of their captions, rare words counting more.

    Source: Huang et al., Classification Done Right for Vision-Language Pre-Training
    (arXiv 2411.03313), equations 1 to 3.

    Args:
      word_logits: Score of every token of the vocabulary.
      tokens: Captions; a token counts once, and one of rarity 0, such as padding, not at all. An
        image without any adds nothing.
      rarity: Inverse document frequency of every token, at least 0.
    """
    rows = jnp.arange(len(tokens))[:, None]
    target = jnp.zeros_like(word_logits).at[rows, tokens].set(1.0) * rarity
    target /= jnp.maximum(jnp.sum(target, axis=1, keepdims=True), 1e-6)
    log_probs = jax.nn.log_softmax(word_logits.astype(jnp.float32), axis=1)
    return -jnp.mean(jnp.sum(target * log_probs, axis=1))
