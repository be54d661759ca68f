import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uniovseg_jax.ops.grid_sample as grid_sample_module
from uniovseg_jax.ops.grid_sample import grid_sample


def _case(seed=0, p=40):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, 5, 8, 3)).astype(np.float32)
    return features, rng.uniform(-0.3, 1.3, size=(2, p, 2)).astype(np.float32)


def _sample_float64(features, points):
    b, h, w, c = features.shape
    out = np.zeros((*points.shape[:2], c))
    for i, j in np.ndindex(*points.shape[:2]):
        u, v = points[i, j, 0] * w - 0.5, points[i, j, 1] * h - 0.5
        for row in range(h):
            for column in range(w):
                share = max(0, 1 - abs(u - column)) * max(0, 1 - abs(v - row))
                out[i, j] += share * features[i, row, column]
    return out


def test_samples_equal_the_definition():
    features, points = _case()
    got = jax.jit(grid_sample)(jnp.asarray(features), jnp.asarray(points))
    expected = _sample_float64(features.astype(np.float64), points.astype(np.float64))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_cell_centres_give_the_cells_and_far_points_zero():
    features = jnp.arange(12.0).reshape(1, 3, 4, 1)
    points = jnp.array([[[(2 + 0.5) / 4, (1 + 0.5) / 3], [0.125, 1 / 6], [2.0, 0.5], [-1.0, 0.5]]])
    np.testing.assert_allclose(grid_sample(features, points)[0, :, 0], [6, 0, 0, 0], atol=1e-5)


def test_samples_and_gradients_equal_torch():
    torch = pytest.importorskip("torch")
    features, points = _case(1)
    maps = torch.tensor(features, dtype=torch.float64, requires_grad=True)
    grid = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    sampled = torch.nn.functional.grid_sample(
        maps.permute(0, 3, 1, 2), 2 * grid[:, :, None] - 1, align_corners=False
    )[..., 0].permute(0, 2, 1)
    torch.sin(sampled).sum().backward()
    np.testing.assert_allclose(
        grid_sample(jnp.asarray(features), jnp.asarray(points)), sampled.detach(), atol=1e-5
    )
    grads = jax.grad(lambda f, p: jnp.sin(grid_sample(f, p)).sum(), argnums=(0, 1))(
        jnp.asarray(features), jnp.asarray(points)
    )
    np.testing.assert_allclose(grads[0], maps.grad.numpy(), atol=1e-4)
    np.testing.assert_allclose(grads[1], grid.grad.numpy(), atol=1e-3)


def test_one_step_and_many_give_the_same(monkeypatch):
    case = tuple(jnp.asarray(x) for x in _case(2))

    def values_and_gradients():
        grads = jax.grad(lambda f, p: jnp.sin(grid_sample(f, p)).sum(), argnums=(0, 1))(*case)
        return grid_sample(*case), *grads

    whole = values_and_gradients()
    monkeypatch.setattr(grid_sample_module, "_CHUNK", 7)
    for got, expected in zip(values_and_gradients(), whole, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_half_precision_comes_back_in_half_precision():
    features, points = (jnp.asarray(x) for x in _case(3))
    half = features.astype(jnp.bfloat16)
    assert grid_sample(half, points).dtype == jnp.bfloat16
    grad = jax.grad(lambda f: grid_sample(f, points).astype(jnp.float32).sum())(half)
    assert grad.dtype == jnp.bfloat16
