"""Attention of groups of queries, each group within its own mask, without keeping the scores."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uniovseg_jax.ops.platform import by_platform


def _scaled_product(
    query: Float[Array, "*n t c"],
    key: Float[Array, "*n s c"],
    value: Float[Array, "*n s c"],
    mask: Bool[Array, "*#n q s"],
) -> Float[Array, "*n t c"]:
    logits = jnp.einsum("...tc,...sc->...ts", query, key, preferred_element_type=jnp.float32)
    *lead, t, s = logits.shape
    q = mask.shape[-2]
    grouped = logits.reshape(*lead, q, t // q, s)
    grouped = jnp.where(mask[..., None, :], grouped, jnp.finfo(jnp.float32).min)
    probs = jax.nn.softmax(grouped, axis=-1).reshape(logits.shape).astype(query.dtype)
    return jnp.einsum("...ts,...sc->...tc", probs, value)


def _whole(query: Array, key: Array, value: Array, mask: Array) -> Array:
    """All heads at once: for CPU."""
    heads_first = (jnp.moveaxis(x, -2, 1) for x in (query, key, value))
    return jnp.moveaxis(_scaled_product(*heads_first, mask[:, None]), 1, -2)


def _by_head(query: Array, key: Array, value: Array, mask: Array) -> Array:
    """One head after the other: for accelerators, where the scores of all would fill the memory."""
    heads_first = tuple(jnp.moveaxis(x, -2, 0) for x in (query, key, value))
    out = jax.lax.map(lambda head: _scaled_product(*head, mask), heads_first)
    return jnp.moveaxis(out, 0, -2)


def _whole_backward(
    query: Array, key: Array, value: Array, mask: Array, grad: Array
) -> tuple[Array, ...]:
    return jax.vjp(functools.partial(_whole, mask=mask), query, key, value)[1](grad)


def _by_head_backward(
    query: Array, key: Array, value: Array, mask: Array, grad: Array
) -> tuple[Array, ...]:
    def differentiate_head(head: tuple[Array, ...]) -> tuple[Array, ...]:
        *inputs, grad = head
        return jax.vjp(functools.partial(_scaled_product, mask=mask), *inputs)[1](grad)

    heads_first = tuple(jnp.moveaxis(x, -2, 0) for x in (query, key, value, grad))
    grads = jax.lax.map(differentiate_head, heads_first)
    return tuple(jnp.moveaxis(x, 0, -2) for x in grads)


def masked_attention(
    query: Float[Array, "b t heads c"],
    key: Float[Array, "b s heads c"],
    value: Float[Array, "b s heads c"],
    mask: Bool[Array, "b q s"],
) -> Float[Array, "b t heads c"]:
    """Attends from queries to the positions of their group; the softmax runs in float32.

    Neither mask nor scores are written out per head and query; the gradient computes the scores
    again.

    Args:
      query: Scaled already; each `t / q` neighbours form a group.
      key: Keys.
      value: Values.
      mask: True where a group may attend; a group without any place attends evenly.

    Raises:
      ValueError: If the queries do not divide into the mask's groups.
    """
    if query.shape[1] % mask.shape[1]:
        raise ValueError(f"{query.shape[1]} queries do not form {mask.shape[1]} equal groups.")
    return _attend(query, key, value, mask)


def _choose(query: Array, key: Array, value: Array, mask: Array) -> Array:
    return by_platform(query, key, value, mask, cpu=_whole, accelerator=_by_head)


def _forward(query: Array, key: Array, value: Array, mask: Array) -> tuple[Array, tuple]:
    return _choose(query, key, value, mask), (query, key, value, mask)


def _backward(residuals: tuple, grad: Array) -> tuple:
    grads = by_platform(*residuals, grad, cpu=_whole_backward, accelerator=_by_head_backward)
    return (*grads, None)


_attend = jax.custom_vjp(_choose)
_attend.defvjp(_forward, _backward)
