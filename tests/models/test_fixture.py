"""The released modules' numbers, on small random weights, from the golden file beside the tests."""

import dataclasses
import pathlib

import numpy as np
import pytest

from convert.fixture import run_fixture
from convert.uniovseg import config_of
from uniovseg_jax.models import presets

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "official_decoder_small.npz"
CONFIG = presets.UniOVSegConfig(
    clip=presets.ClipConfig(widths=(16, 24, 32, 48)),
    image_size=64,
    dim=32,
    encoder_layers=2,
    decoder_layers=3,
    decoder_ffn_dim=64,
    adapter=None,
)
# Float32 on both sides.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def outputs(golden):
    """Converts the published names, runs the model, and returns its outputs by golden key."""
    return {f"out/{name}": value for name, value in run_fixture(golden).items()}


def test_the_sizes_are_read_from_the_tensors(golden):
    state = {k.removeprefix("state/"): v for k, v in golden.items() if k.startswith("state/")}
    # Sides of images are in no tensor.
    assert dataclasses.replace(config_of(state), image_size=64) == CONFIG


def test_every_output_of_the_released_modules_is_reproduced(golden, outputs):
    expected = {k: v for k, v in golden.items() if k.startswith("out/")}
    assert set(outputs) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(outputs[key], value, rtol=0, atol=TOLERANCE, err_msg=key)


def test_the_golden_tells_prompts_and_layers_apart(golden):
    masks = golden["out/points/pred_masks"]
    assert np.abs(masks[0, 0] - masks[0, 1]).max() > 100 * TOLERANCE
    assert np.abs(masks - golden["out/points/aux2/pred_masks"]).max() > 100 * TOLERANCE
