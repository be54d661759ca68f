import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.ops import deformable, deformable_packed

_SHAPES = ((2, 3), (4, 6), (9, 5))


def _case(seed=0, b=2, q=12, heads=3, points=2, c=5):
    rng = np.random.default_rng(seed)
    rows = sum(h * w for h, w in _SHAPES)
    value = rng.normal(size=(b, rows, heads, c))
    # Fractional and beyond the border: no sample sits on a kink.
    locations = rng.uniform(-0.3, 1.3, size=(b, q, heads, len(_SHAPES), points, 2))
    weights = rng.uniform(size=(b, q, heads, len(_SHAPES), points))
    return [np.asarray(x, np.float32) for x in (value, locations, weights)]


def _sample_float64(value, locations, weights):
    """The definition, one sample after the other."""
    value, locations, weights = (np.asarray(x, np.float64) for x in (value, locations, weights))
    b, q, heads, levels, points, _ = locations.shape
    out = np.zeros((b, q, heads, value.shape[-1]))
    for index in np.ndindex(b, q, heads, levels, points):
        i, j, head, level, _ = index
        h, w = _SHAPES[level]
        start = sum(a * b for a, b in _SHAPES[:level])
        grid = value[i, start : start + h * w, head].reshape(h, w, -1)
        u, v = locations[index][0] * w - 0.5, locations[index][1] * h - 0.5
        for row in (int(np.floor(v)), int(np.floor(v)) + 1):
            for column in (int(np.floor(u)), int(np.floor(u)) + 1):
                if 0 <= row < h and 0 <= column < w:
                    share = (1 - abs(u - column)) * (1 - abs(v - row))
                    out[i, j, head] += weights[index] * share * grid[row, column]
    return out


@pytest.mark.parametrize(
    "form",
    [
        deformable.deformable_sampling,
        deformable.deformable_sampling_chunked,
        deformable.deformable_sampling_gather,
        deformable_packed.deformable_sampling_packed,
    ],
)
def test_every_form_equals_the_definition(form):
    case = _case()
    got = jax.jit(form, static_argnums=3)(*map(jnp.asarray, case), _SHAPES)
    np.testing.assert_allclose(got, _sample_float64(*case), atol=1e-5)


def test_gradients_equal_those_of_the_gather_and_of_finite_differences():
    case = [jnp.asarray(x) for x in _case(1)]
    grad = np.random.default_rng(2).normal(size=(2, 12, 3, 5)).astype(np.float32)

    def loss(form):
        return jax.jit(jax.grad(lambda *x: jnp.sum(form(*x, _SHAPES) * grad), argnums=(0, 1, 2)))(
            *case
        )

    got = loss(deformable.deformable_sampling)
    for a, b in zip(got, loss(deformable.deformable_sampling_gather), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    rng = np.random.default_rng(3)
    for argument in range(3):
        direction = rng.normal(size=case[argument].shape)
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = [np.asarray(x, np.float64) for x in case]
            moved[argument] = moved[argument] + sign * step * direction
            ends.append((_sample_float64(*moved) * grad).sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float((got[argument] * direction).sum()) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("chunk", [5, 2048])
def test_packed_gradients_equal_those_of_the_gather(monkeypatch, chunk):
    monkeypatch.setattr(deformable_packed, "_CHUNK", chunk)
    case = [jnp.asarray(x) for x in _case(8)]
    grad = jnp.asarray(np.random.default_rng(9).normal(size=(2, 12, 3, 5)), jnp.float32)
    got = deformable_packed.packed_backward(*case, grad, spatial_shapes=_SHAPES)
    expected = deformable._gather_backward(*case, grad, spatial_shapes=_SHAPES)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_values_equal_torch_grid_sample_with_gradients():
    torch = pytest.importorskip("torch")
    value, locations, weights = _case(4)
    tensors = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in (value, locations, weights)
    ]
    b, q, heads, _, points, _ = locations.shape
    total, start = 0.0, 0
    for level, (h, w) in enumerate(_SHAPES):
        maps = tensors[0][:, start : start + h * w].permute(0, 2, 3, 1).reshape(b * heads, -1, h, w)
        grid = (
            2 * tensors[1][:, :, :, level].permute(0, 2, 1, 3, 4).reshape(b * heads, q, points, 2)
            - 1
        )
        sampled = torch.nn.functional.grid_sample(maps, grid, align_corners=False)
        share = tensors[2][:, :, :, level].permute(0, 2, 1, 3).reshape(b * heads, 1, q, points)
        total = total + (sampled * share).sum(-1)
        start += h * w
    total = total.reshape(b, heads, -1, q).permute(0, 3, 1, 2)
    torch.sin(total).sum().backward()
    case = [jnp.asarray(x) for x in (value, locations, weights)]
    out = deformable.deformable_sampling(*case, _SHAPES)
    np.testing.assert_allclose(out, total.detach().numpy(), atol=1e-5)
    grads = jax.jit(
        jax.grad(lambda *x: jnp.sin(deformable.deformable_sampling(*x, _SHAPES)).sum(), (0, 1, 2))
    )(*case)
    for got, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-4, atol=1e-4)


def test_one_chunk_and_many_give_the_same(monkeypatch):
    case = [jnp.asarray(x) for x in _case(5, q=24)]
    whole = deformable.deformable_sampling_chunked(*case, _SHAPES)
    monkeypatch.setattr(deformable, "_FORWARD_CHUNK", 5)
    np.testing.assert_allclose(
        deformable.deformable_sampling_chunked(*case, _SHAPES), whole, atol=1e-6
    )


def test_samples_outside_give_zero_and_no_gradient():
    value, locations, weights = (jnp.asarray(x) for x in _case(6))
    outside = jnp.full_like(locations, -3.0)
    assert not deformable.deformable_sampling(value, outside, weights, _SHAPES).any()
    grads = jax.grad(
        lambda *x: deformable.deformable_sampling(*x, _SHAPES).sum(), argnums=(0, 1, 2)
    )(value, outside, weights)
    assert not any(g.any() for g in grads)


def test_levels_that_do_not_fit_the_rows_are_refused():
    value, locations, weights = (jnp.asarray(x) for x in _case())
    with pytest.raises(ValueError, match="do not add up"):
        deformable.deformable_sampling(value[:, :-1], locations, weights, _SHAPES)


def test_bfloat16_values_come_back_in_bfloat16_close_to_float32():
    value, locations, weights = (jnp.asarray(x) for x in _case(7))
    half = deformable.deformable_sampling(value.astype(jnp.bfloat16), locations, weights, _SHAPES)
    assert half.dtype == jnp.bfloat16
    exact = deformable.deformable_sampling(value, locations, weights, _SHAPES)
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.1)
