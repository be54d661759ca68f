"""The weights that come with the package are whole, small and the ones that the docs describe."""

import pathlib

import numpy as np
import pytest

from uniovseg_jax.inference.mask_generator import AutomaticMaskGenerator
from uniovseg_jax.masks import mask_iou_matrix
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.weights.store import load_pretrained, params_sha256

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_ASSETS = _ROOT / "uniovseg_jax" / "assets"
_PARTS = {"tinyscenes_clip": ("clip",), "tinyscenes_stage1": ("clip", "masks")}


@pytest.mark.parametrize("name", _PARTS)
def test_shipped_weights_are_those_of_the_docs(name):
    pretrained = load_pretrained(_ASSETS / name)
    assert pretrained.parts == _PARTS[name]
    assert params_sha256(pretrained.variables) in (_ROOT / "docs" / "tinyscenes.md").read_text()
    assert {"seed", "made_with", "versions"} <= set(pretrained.metadata)


def test_shipped_weights_stay_under_ten_megabytes():
    sizes = [path.stat().st_size for path in _ASSETS.rglob("*") if path.is_file()]
    assert 0 < sum(sizes) < 10e6


def test_both_are_the_model_that_the_config_trains_and_hold_the_same_clip():
    clip, stage1 = (load_pretrained(_ASSETS / name) for name in _PARTS)
    assert clip.config == stage1.config == get_preset("nano")
    of_clip, of_stage1 = (
        {"params": {"clip": model.variables["params"]["clip"]}} for model in (clip, stage1)
    )
    assert params_sha256(of_clip) == params_sha256(of_stage1)


def test_shipped_weights_find_a_plain_square():
    image = np.zeros((256, 256, 3), np.uint8)
    image[...] = (60, 150, 40)
    image[64:192, 64:192] = (40, 60, 220)
    square = np.zeros((256, 256), bool)
    square[64:192, 64:192] = True
    generator = AutomaticMaskGenerator(load_pretrained(_ASSETS / "tinyscenes_stage1"))
    masks = np.stack([record["segmentation"] for record in generator.generate(image)])
    # Flat colours without shade or texture occur in no scene, so its edges need not be exact.
    assert mask_iou_matrix(masks, square[None]).max() > 0.6
