import jax
import jax.numpy as jnp

from uniovseg_jax.ops.platform import by_platform


def _choose(x):
    return by_platform(x, cpu=lambda x: x + 1, accelerator=lambda x: x * jnp.sin(x))


def test_cpu_form_runs_on_cpu_with_and_without_jit():
    assert float(_choose(jnp.float32(2))) == 3.0
    assert float(jax.jit(_choose)(jnp.float32(2))) == 3.0


def test_only_the_platforms_own_form_is_lowered():
    exported = jax.jit(_choose).trace(jnp.float32(2))
    assert "sine" not in exported.lower(lowering_platforms=("cpu",)).as_text()
    assert "sine" in exported.lower(lowering_platforms=("cuda",)).as_text()
    assert "sine" in exported.lower(lowering_platforms=("tpu",)).as_text()


def test_a_tpu_may_have_a_form_of_its_own():
    def choose(x):
        return by_platform(x, cpu=jnp.negative, accelerator=jnp.sin, tpu=jnp.cos)

    traced = jax.jit(choose).trace(jnp.float32(2))
    assert "cosine" in traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "sine" in traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "cosine" not in traced.lower(lowering_platforms=("cuda",)).as_text()
