"""The released modules' numbers, on small random weights, from the golden file beside the tests."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convert.uniovseg_rules import MASK_RULES
from uniovseg_jax.models import presets
from uniovseg_jax.models.mask_decoder import compute_masks
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg, abstract_variables
from uniovseg_jax.weights import engine

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
    shapes = traverse_util.flatten_dict(abstract_variables(CONFIG, ("masks",)), sep="/")
    state = {k.removeprefix("state/"): v for k, v in golden.items() if k.startswith("state/")}
    variables = traverse_util.unflatten_dict(engine.convert(state, MASK_RULES, shapes), sep="/")
    trunk = {
        f"res{i}": jnp.asarray(golden[f"in/res{i}"].transpose(0, 2, 3, 1)) for i in range(2, 6)
    }

    def forward(model, trunk, points, boxes):
        features = ImageFeatures(trunk, model.decode_pixels(trunk))
        memory = model.prepare_masks(features)
        decoded = {
            "points": model.decode_masks(features, memory, points, "point"),
            "boxes": model.decode_masks(features, memory, boxes, "box"),
        }
        return features.pixel, memory, decoded

    model = UniOVSeg(CONFIG)
    pixel, memory, decoded = jax.jit(lambda v, *args: model.apply(v, *args, method=forward))(
        variables, trunk, golden["in/points_xyxy"], golden["in/boxes_xyxy"]
    )
    result = {"out/mask_features": pixel.mask_features.transpose(0, 3, 1, 2)}
    for level, x in enumerate(pixel.multi_scale_features):
        result[f"out/multi_scale_{level}"] = x.transpose(0, 3, 1, 2)
    for name, output in decoded.items():
        for i, embeds in enumerate(output.mask_embeds):
            layer = "" if i == CONFIG.decoder_layers else f"aux{i}/"
            masks = compute_masks(embeds, memory.pixel_embeds)
            result[f"out/{name}/{layer}pred_masks"] = masks
            result[f"out/{name}/{layer}pred_ious"] = output.pred_ious[i]
    return result


def test_every_output_of_the_released_modules_is_reproduced(golden, outputs):
    expected = {k: v for k, v in golden.items() if k.startswith("out/")}
    assert set(outputs) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(outputs[key], value, rtol=0, atol=TOLERANCE, err_msg=key)


def test_the_golden_tells_prompts_and_layers_apart(golden):
    masks = golden["out/points/pred_masks"]
    assert np.abs(masks[0, 0] - masks[0, 1]).max() > 100 * TOLERANCE
    assert np.abs(masks - golden["out/points/aux2/pred_masks"]).max() > 100 * TOLERANCE
