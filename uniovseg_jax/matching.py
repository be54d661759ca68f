"""Assignments: masks of a point to ground truths (stage 1), masks to entities (stage 2)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Bool, Float, Int

# Added by the released matcher to pairs with ground truths that do not contain the point.
_RELEASED_PENALTY = 1e6


def match_many_to_many(
    costs: Float[Array, "... q k n"], member: Bool[Array, "... q n"]
) -> Int[Array, "... q k"]:
    """Assigns, per point, its k masks to the ground truths that contain the point.

    Each point is solved on its own: as many pairs as possible, then the smallest summed cost, each
    mask and each ground truth at most once. Several points may share a ground truth. The solution
    is exact: a dynamic programme over ground truths whose state is the set of used masks.

    Args:
      costs: Cost of pairing mask k with ground truth n; pairs that are not finite are forbidden.
      member: Whether ground truth n contains the point; False for padded slots.

    Returns:
      Ground truth of every mask, int32, -1 for none.
    """
    k, n = costs.shape[-2:]
    lead = costs.shape[:-2]
    allowed = jnp.isfinite(costs) & member[..., None, :]
    costs = jnp.where(allowed, costs.astype(jnp.float32), jnp.inf)
    targets = jax.vmap(_match_point)(costs.reshape(-1, k, n))
    return targets.reshape(*lead, k)


def _match_point(costs: Float[Array, "k n"]) -> Int[Array, " k"]:
    """The programme for one point; forbidden pairs cost infinity."""
    k = costs.shape[0]
    states = np.arange(1 << k)
    used = (states[:, None] >> np.arange(k)) & 1 == 1
    before = np.where(used, states[:, None] ^ (1 << np.arange(k)), 0)
    size = used.sum(axis=1)

    def forward(best, cost):
        extended = jnp.where(used, best[before] + cost, jnp.inf)
        choice = jnp.argmin(extended, axis=1).astype(jnp.int32)
        value = jnp.min(extended, axis=1)
        choice = jnp.where(value < best, choice, -1)
        return jnp.minimum(best, value), choice

    start = jnp.full(len(states), jnp.inf).at[0].set(0.0)
    best, choices = jax.lax.scan(forward, start, costs.T)
    largest = jnp.max(jnp.where(jnp.isfinite(best), size, 0))
    state = jnp.argmin(jnp.where(size == largest, best, jnp.inf)).astype(jnp.int32)

    def backward(carry, step):
        state, targets = carry
        index, choice = step
        chosen = choice[state]
        hit = (jnp.arange(k) == chosen) & (chosen >= 0)
        state = jnp.where(chosen >= 0, state ^ (1 << jnp.maximum(chosen, 0)), state)
        return (state, jnp.where(hit, index, targets)), None

    steps = (jnp.arange(costs.shape[1], dtype=jnp.int32), choices)
    (_, targets), _ = jax.lax.scan(
        backward, (state, jnp.full(k, -1, jnp.int32)), steps, reverse=True
    )
    return targets


def match_many_to_many_released(
    costs: Float[np.ndarray, "*lead q k n"], member: Bool[np.ndarray, "*lead q n"]
) -> Int[np.ndarray, "*lead q k"]:
    """The released matcher, on the host: non-members cost 1e6 more and are dropped afterwards.

    Costs against ground truths that do not contain the point thus steer slightly which mask is
    chosen, unlike in `match_many_to_many`.

    A point with costs that are not finite gets no pairs.
    """
    targets = np.full(costs.shape[:-1], -1, np.int32)
    for index in itertools.product(*map(range, costs.shape[:-2])):
        if not np.isfinite(costs[index]).all():
            continue
        total = costs[index].astype(np.float64) + _RELEASED_PENALTY * ~member[index]
        masks, truths = scipy.optimize.linear_sum_assignment(total)
        keep = member[index][truths]
        targets[index][masks[keep]] = truths[keep]
    return targets


def match_one_to_one(
    costs: Float[np.ndarray, "n e"],
    *,
    mask_valid: Bool[np.ndarray, " n"] | None = None,
    entity_valid: Bool[np.ndarray, " e"] | None = None,
    cosine: Float[np.ndarray, "n e"] | None = None,
    min_cosine: float | None = None,
    topk: float = 1.0,
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Pairs masks with the entities of a caption by the smallest summed cost, min(n, e) pairs.

    Args:
      costs: Cost of every mask with every entity.
      mask_valid: False for padded masks, which the solver never sees; None when all are real.
      entity_valid: The same for entities.
      cosine: Cosine of every pair, needed for `min_cosine`.
      min_cosine: Drop pairs below it; None keeps all.
      topk: Share of the pairs to keep, the cheapest first, at least one.

    Returns:
      Indices of masks and of entities into `costs`, ordered by mask.

    Raises:
      ValueError: If a cost between real entries is not finite, or `min_cosine` comes alone.
    """
    if min_cosine is not None and cosine is None:
        raise ValueError("min_cosine needs the cosine of every pair.")
    rows = np.arange(costs.shape[0]) if mask_valid is None else np.flatnonzero(mask_valid)
    columns = np.arange(costs.shape[1]) if entity_valid is None else np.flatnonzero(entity_valid)
    real = costs[np.ix_(rows, columns)].astype(np.float64)
    _check_finite(real)
    chosen_rows, chosen_columns = scipy.optimize.linear_sum_assignment(real)
    masks, entities = rows[chosen_rows], columns[chosen_columns]
    if topk < 1.0 and masks.size:
        count = max(1, int(masks.size * topk))
        cheapest = np.argsort(costs[masks, entities], kind="stable")[:count]
        masks, entities = masks[np.sort(cheapest)], entities[np.sort(cheapest)]
    if min_cosine is not None and cosine is not None:
        keep = cosine[masks, entities] >= min_cosine
        masks, entities = masks[keep], entities[keep]
    return masks, entities


def _check_finite(costs: np.ndarray) -> None:
    """Raises where a solver would hang or answer nonsense."""
    bad = int(np.count_nonzero(~np.isfinite(costs)))
    if bad:
        raise ValueError(f"Matching costs must be finite; {bad} of {costs.size} are not.")
