"""Assignments against scipy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from uniovseg_jax import matching

match = jax.jit(matching.match_many_to_many)


def solve_with_scipy(costs, allowed):
    """Largest number of allowed pairs and the smallest summed cost among those."""
    big = 1e4
    total = np.where(allowed, costs, big)
    rows, columns = scipy.optimize.linear_sum_assignment(total)
    keep = allowed[rows, columns]
    return keep.sum(), costs[rows[keep], columns[keep]].sum()


@pytest.mark.parametrize("k,n", [(4, 9), (4, 2), (4, 1), (1, 5), (3, 16)])
def test_many_to_many_is_optimal(k, n):
    rng = np.random.default_rng(k * 100 + n)
    costs = rng.random((5, 40, k, n)).astype(np.float32)
    costs[1] = rng.integers(0, 3, costs[1].shape)  # ties
    member = rng.random((5, 40, n)) < rng.random((5, 40, 1))
    member[2, :3] = False
    targets = np.asarray(match(jnp.asarray(costs), jnp.asarray(member)))
    assert targets.dtype == np.int32 and targets.shape == (5, 40, k)
    for index in np.ndindex(5, 40):
        allowed = np.broadcast_to(member[index], (k, n))
        pairs, cost = solve_with_scipy(costs[index].astype(np.float64), allowed)
        masks = np.flatnonzero(targets[index] >= 0)
        truths = targets[index][masks]
        assert len(masks) == pairs == min(k, member[index].sum())
        assert len(set(truths)) == len(truths) and member[index][truths].all()
        assert costs[index][masks, truths].sum() == pytest.approx(cost, abs=1e-5)


def all_assignments(k, n):
    """Every way to give each of k masks one of n ground truths or none (-1), each at most once."""
    rows = itertools.product(range(-1, n), repeat=k)
    return np.array([row for row in rows if len(set(row) - {-1}) == k - row.count(-1)])


@pytest.mark.parametrize(
    ("k", "n", "count"), [(4, 6, 40_000), (4, 4, 30_000), (3, 5, 15_000), (2, 7, 15_000)]
)
def test_many_to_many_equals_trying_everything(k, n, count):
    rng = np.random.default_rng(n)
    # Whole numbers: sums are exact, and equal costs are frequent.
    costs = rng.integers(-20, 21, (count, k, n)).astype(np.float32)
    costs[rng.random(costs.shape) < 0.05] = np.inf
    member = rng.random((count, n)) < rng.random((count, 1))
    targets = np.asarray(match(jnp.asarray(costs), jnp.asarray(member)))

    # A pair counts more than all costs together; a forbidden one spoils the assignment.
    worth = np.where(np.isfinite(costs) & member[:, None], costs - 1000, np.inf)
    worth = np.concatenate([worth, np.zeros((count, k, 1), np.float32)], axis=2)  # None.
    masks = np.arange(k)
    best = np.full(count, np.inf, np.float32)
    for row in all_assignments(k, n):
        best = np.minimum(best, worth[:, masks, row].sum(axis=1))
    found = np.take_along_axis(worth, targets[..., None], axis=2).sum(axis=(1, 2))
    np.testing.assert_array_equal(found, best)
    for mask, other in itertools.combinations(masks, 2):
        pair = targets[:, mask], targets[:, other]
        assert not ((pair[0] == pair[1]) & (pair[0] >= 0)).any()


def test_a_point_in_six_masks_gets_four_pairs_and_in_none_none():
    rng = np.random.default_rng(0)
    costs = jnp.asarray(rng.random((2, 4, 8)), jnp.float32)
    member = jnp.zeros((2, 8), bool).at[0, :6].set(True)
    targets = np.asarray(match(costs, member))
    assert (targets[0] >= 0).all() and (targets[0] < 6).all()
    assert (targets[1] == -1).all()


def test_non_finite_costs_are_forbidden():
    rng = np.random.default_rng(1)
    costs = rng.random((30, 4, 6)).astype(np.float32)
    costs[rng.random(costs.shape) < 0.3] = np.nan
    costs[rng.random(costs.shape) < 0.2] = np.inf
    costs[0] = np.nan
    costs[1] = -np.inf
    member = np.ones((30, 6), bool)
    targets = np.asarray(match(jnp.asarray(costs), jnp.asarray(member)))
    assert (targets[:2] == -1).all()
    for i in range(30):
        allowed = np.isfinite(costs[i])
        pairs, cost = solve_with_scipy(np.where(allowed, costs[i], 0.0), allowed)
        masks = np.flatnonzero(targets[i] >= 0)
        assert len(masks) == pairs
        assert costs[i][masks, targets[i][masks]].sum() == pytest.approx(cost, abs=1e-5)


def test_released_rule_differs_only_through_non_members():
    rng = np.random.default_rng(2)
    costs = rng.random((1, 200, 4, 12)).astype(np.float32)
    member = rng.random((1, 200, 12)) < 0.15
    released = matching.match_many_to_many_released(costs, member)
    clean = np.asarray(match(jnp.asarray(costs), jnp.asarray(member)))
    counts = np.minimum(member.sum(axis=-1), 4)
    np.testing.assert_array_equal((released >= 0).sum(axis=-1), counts)
    same = (released == clean).all(axis=-1)
    assert 0.5 < same.mean() < 1.0
    everywhere = np.ones_like(member)
    np.testing.assert_array_equal(
        matching.match_many_to_many_released(costs, everywhere),
        np.asarray(match(jnp.asarray(costs), jnp.asarray(everywhere))),
    )
    broken = costs.copy()
    broken[0, 0, 0, 0] = np.nan
    targets = matching.match_many_to_many_released(broken, member)
    assert (targets[0, 0] == -1).all()
    targets[0, 0] = released[0, 0]
    np.testing.assert_array_equal(targets, released)


@pytest.mark.parametrize("n,e", [(7, 3), (3, 7), (5, 5), (1, 4), (6, 1)])
def test_one_to_one_ignores_padding(n, e):
    rng = np.random.default_rng(n * 10 + e)
    costs = np.full((n + 4, e + 2), np.nan, np.float32)
    mask_valid = rng.permutation(np.arange(n + 4) < n)
    entity_valid = rng.permutation(np.arange(e + 2) < e)
    real = rng.random((n, e))
    costs[np.ix_(mask_valid, entity_valid)] = real
    masks, entities = matching.match_one_to_one(
        costs, mask_valid=mask_valid, entity_valid=entity_valid
    )
    rows, columns = scipy.optimize.linear_sum_assignment(real)
    np.testing.assert_array_equal(masks, np.flatnonzero(mask_valid)[rows])
    np.testing.assert_array_equal(entities, np.flatnonzero(entity_valid)[columns])


def test_one_to_one_filters():
    costs = np.diag([-0.9, -0.5, -0.1, -0.7])
    masks, entities = matching.match_one_to_one(costs, topk=0.5)
    assert masks.tolist() == entities.tolist() == [0, 3]
    assert matching.match_one_to_one(costs, topk=0.01)[0].tolist() == [0]
    masks, _ = matching.match_one_to_one(costs, cosine=-costs, min_cosine=0.3)
    assert masks.tolist() == [0, 1, 3]
    assert matching.match_one_to_one(costs[:0])[0].size == 0
    assert matching.match_one_to_one(costs[:, :0], topk=0.5)[0].size == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_to_one_refuses_non_finite(value):
    costs = np.zeros((3, 2))
    costs[1, 1] = value
    with pytest.raises(ValueError, match="1 of 6"):
        matching.match_one_to_one(costs)
    with pytest.raises(ValueError, match="min_cosine"):
        matching.match_one_to_one(np.zeros((2, 2)), min_cosine=0.1)
