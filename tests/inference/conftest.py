"""A model of the `test` preset with random weights."""

import jax
import numpy as np
import pytest

from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.weights.store import PARTS, Pretrained


@pytest.fixture(scope="session")
def pretrained() -> Pretrained:
    config = get_preset("test")
    return Pretrained(
        model=UniOVSeg(config),
        config=config,
        variables=init_variables(config, jax.random.key(0), PARTS),
        tokenizer=train_tokenizer(
            ["a photo of a red ball"], config.clip.vocab_size, config.clip.context_length
        ),
        parts=PARTS,
        metadata={},
    )


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    """Colourful rectangles, wider than high, larger than the network input."""
    rng = np.random.default_rng(0)
    picture = np.full((70, 110, 3), 90, np.uint8)
    for _ in range(9):
        y, x = rng.integers(0, 50), rng.integers(0, 90)
        picture[y : y + 25, x : x + 30] = rng.integers(0, 255, 3)
    return picture
