import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from uniovseg_jax.ops import attention


def _case(seed=0, b=2, q=3, tokens=2, s=7, heads=4, c=5):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(b, q * tokens, heads, c))
    key, value = rng.normal(size=(2, b, s, heads, c))
    mask = rng.random((b, q, s)) < 0.5
    mask[:, :, 0] = True
    return *(jnp.asarray(x, jnp.float32) for x in (query, key, value)), jnp.asarray(mask)


def _attend_float64(query, key, value, mask):
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    logits = np.einsum("bthc,bshc->bhts", query, key)
    mask = np.repeat(np.asarray(mask), query.shape[1] // mask.shape[1], axis=1)
    probs = scipy.special.softmax(np.where(mask[:, None], logits, -np.inf), axis=-1)
    return np.einsum("bhts,bshc->bthc", probs, value)


@pytest.mark.parametrize("form", [attention.masked_attention, attention._whole, attention._by_head])
def test_every_form_equals_the_definition(form):
    case = _case()
    np.testing.assert_allclose(form(*case), _attend_float64(*case), atol=1e-5)


@pytest.mark.parametrize("backward", [attention._whole_backward, attention._by_head_backward])
def test_gradients_of_both_forms_equal_finite_differences(backward):
    case = _case(1)
    rng = np.random.default_rng(2)
    weight = rng.normal(size=case[0].shape)
    grads = backward(*case, jnp.asarray(weight, jnp.float32))
    for argument in range(3):
        direction = rng.normal(size=case[argument].shape)
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = [np.asarray(x, np.float64) for x in case[:3]]
            moved[argument] = moved[argument] + sign * step * direction
            ends.append((_attend_float64(*moved, case[3]) * weight).sum())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float((grads[argument] * direction).sum()) == pytest.approx(slope, rel=1e-3)


def test_derivative_of_the_public_form_is_that_of_its_parts():
    query, key, value, mask = _case(3)
    grads = jax.grad(
        lambda *x: jnp.sin(attention.masked_attention(*x, mask)).sum(), argnums=(0, 1, 2)
    )(query, key, value)
    plain = jax.grad(lambda *x: jnp.sin(attention._whole(*x, mask)).sum(), argnums=(0, 1, 2))(
        query, key, value
    )
    for got, expected in zip(grads, plain, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_group_without_any_place_attends_evenly():
    query, key, value, mask = _case(4)
    out = attention.masked_attention(query, key, value, mask.at[0, 1].set(False))
    for token in (2, 3):
        np.testing.assert_allclose(out[0, token], value[0].mean(0), atol=1e-5)


def test_scores_are_written_for_one_head_at_a_time_on_accelerators():
    case = _case()
    lowered = jax.jit(attention.masked_attention).trace(*case).lower(lowering_platforms=("tpu",))
    assert "tensor<2x2x3x7xf32>" in lowered.as_text()
    assert "tensor<4x2x2x3x7xf32>" not in lowered.as_text()


def test_queries_that_form_no_equal_groups_are_refused():
    query, key, value, mask = _case()
    with pytest.raises(ValueError, match="5 queries do not form 3 equal groups"):
        attention.masked_attention(query[:, :5], key, value, mask)
