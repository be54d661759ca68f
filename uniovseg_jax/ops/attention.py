"""Attention of groups of queries, each group within its own mask, without keeping the scores."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uniovseg_jax.ops.platform import by_platform


def _scaled_product(
    query: Float[Array, "*n g q c"],
    key: Float[Array, "*n s c"],
    value: Float[Array, "*n s c"],
    mask: Bool[Array, "*#n q s"],
) -> Float[Array, "*n g q c"]:
    logits = jnp.einsum("...gqc,...sc->...gqs", query, key, preferred_element_type=jnp.float32)
    logits = jnp.where(mask[..., None, :, :], logits, jnp.finfo(jnp.float32).min)
    probs = jax.nn.softmax(logits, axis=-1).astype(query.dtype)
    return jnp.einsum("...gqs,...sc->...gqc", probs, value)


def _heads_first(
    query: Array, key: Array, value: Array, num_groups: int
) -> tuple[Array, Array, Array]:
    """Returns (heads, b, g, q, c) and twice (heads, b, s, c).

    The g members of the groups come before the groups, so that masks broadcast over an outer axis:
    on TPUs, scores that are cut along an inner one would have to be moved.
    """
    return (
        _members_first(query, num_groups),
        jnp.moveaxis(key, -2, 0),
        jnp.moveaxis(value, -2, 0),
    )


def _members_first(
    x: Float[Array, "b t heads c"], num_groups: int
) -> Float[Array, "heads b g q c"]:
    b, _, heads, c = x.shape
    return x.reshape(b, num_groups, -1, heads, c).transpose(3, 0, 2, 1, 4)


def _members_last(x: Float[Array, "heads b g q c"]) -> Float[Array, "b t heads c"]:
    """The inverse of `_members_first`."""
    heads, b, _, _, c = x.shape
    return x.transpose(1, 3, 2, 0, 4).reshape(b, -1, heads, c)


def _whole(query: Array, key: Array, value: Array, mask: Array) -> Array:
    """All heads at once: for CPU."""
    query, key, value = _heads_first(query, key, value, mask.shape[1])
    return _members_last(_scaled_product(query, key, value, mask[None]))


def _by_head(query: Array, key: Array, value: Array, mask: Array) -> Array:
    """One head after the other: for accelerators, where the scores of all would fill the memory."""
    heads = _heads_first(query, key, value, mask.shape[1])
    return _members_last(
        jax.lax.map(lambda head: _scaled_product(head[0], head[1], head[2], mask), heads)
    )


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

    num_groups = mask.shape[1]
    heads = (*_heads_first(query, key, value, num_groups), _members_first(grad, num_groups))
    grad_query, grad_key, grad_value = jax.lax.map(differentiate_head, heads)
    grad_key, grad_value = (jnp.moveaxis(x, 0, -2) for x in (grad_key, grad_value))
    return _members_last(grad_query), grad_key, grad_value


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
