"""The float64 reference against stored outputs of the authors' modules."""

import pathlib

import numpy as np
import pytest

from convert import reference_masks
from convert.uniovseg import convert_state

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "official_decoder_small.npz"


@pytest.mark.parametrize(("name", "prompt_type"), [("points", "point"), ("boxes", "box")])
def test_the_reference_reproduces_the_released_modules(name, prompt_type):
    with np.load(GOLDEN) as file:
        golden = dict(file)
    state = {k.removeprefix("state/"): v for k, v in golden.items() if k.startswith("state/")}
    converted = convert_state(state)
    config, flat = converted.config, converted.flat
    trunk = {
        f"res{i}": golden[f"in/res{i}"].transpose(0, 2, 3, 1).astype(np.float64)
        for i in range(2, 6)
    }
    mask_features, maps, _ = reference_masks.pixel_decoder(flat, config, trunk)
    close = {"rtol": 0, "atol": 1e-4}
    np.testing.assert_allclose(
        mask_features.transpose(0, 3, 1, 2), golden["out/mask_features"], **close
    )
    tokens = reference_masks.prompt_tokens(
        flat, config, mask_features, golden[f"in/{name}_xyxy"], (64, 64), prompt_type
    )
    masks, ious, _ = reference_masks.mask_decoder(
        flat, config, mask_features, maps, tokens, prompt_type
    )
    for i in range(config.decoder_layers + 1):
        layer = "" if i == config.decoder_layers else f"aux{i}/"
        np.testing.assert_allclose(masks[i], golden[f"out/{name}/{layer}pred_masks"], **close)
        np.testing.assert_allclose(ious[i], golden[f"out/{name}/{layer}pred_ious"], **close)
