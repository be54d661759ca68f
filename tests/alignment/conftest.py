import jax
import numpy as np
import pytest

from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.weights.store import Pretrained

NAMES = ("grass", "red ball", "blue house")


@pytest.fixture(scope="session")
def pretrained():
    config = get_preset("test")
    tokenizer = train_tokenizer(
        [f"a photo of a {name}." for name in NAMES],
        config.clip.vocab_size,
        config.clip.context_length,
    )
    parts = ("clip", "masks", "adapter")
    variables = init_variables(config, jax.random.key(0), parts)
    return Pretrained(UniOVSeg(config), config, variables, tokenizer, parts, {})


@pytest.fixture(scope="session")
def pictures():
    """Six noisy pictures of two sizes."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64 - 14 * (i % 2), 3), np.uint8) for i in range(6)]
