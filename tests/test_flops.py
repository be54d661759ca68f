import dataclasses

import pytest

from uniovseg_jax import flops
from uniovseg_jax.models.presets import get_preset

RELEASED = get_preset("released")


def _gflop(macs):
    return round(2 * macs / 1e9)


def _mask_decoder(side, num_points, num_masks):
    config = dataclasses.replace(RELEASED, masks_per_point=num_masks)
    prompts = flops.prompt_macs(config, side, num_points, num_masks, whole_masks=True)
    return flops.decoder_memory_macs(config, side) + prompts


# Forward GFLOP per image of a hand-written table: side, trunk, pixel decoder, and the mask decoder
# for 400 and 100 points with four masks each.
@pytest.mark.parametrize(
    ("side", "trunk", "pixels", "masks_400", "masks_100"),
    [(512, 359, 72, 164, 46), (896, 1100, 222, 328, 97), (1024, 1436, 289, 402, 120)],
)
def test_forward_work_of_the_large_model(side, trunk, pixels, masks_400, masks_100):
    assert _gflop(flops.trunk_macs(RELEASED.clip, side)) == trunk
    assert abs(_gflop(flops.pixel_decoder_macs(RELEASED, side)) - pixels) <= 1
    assert _gflop(_mask_decoder(side, 400, 4)) == masks_400
    assert _gflop(_mask_decoder(side, 100, 4)) == masks_100


@pytest.mark.parametrize(("num_masks", "expected"), [(3, 336), (6, 535)])
def test_work_grows_with_the_masks_per_point(num_masks, expected):
    assert _gflop(_mask_decoder(1024, 400, num_masks)) == expected


def test_a_training_step_agrees_with_the_table():
    # The table's 2.78 TFLOP per image make whole masks and give boxes four masks as well.
    side = RELEASED.image_size
    of_table = sum(
        flops.prompt_macs(RELEASED, side, count, 4, whole_masks=True) for count in (100, 40)
    )
    of_ours = flops.prompt_macs(RELEASED, side, 100, 4, False)
    of_ours += flops.prompt_macs(RELEASED, side, 40, 1, False)
    without_losses = flops.stage1_macs(RELEASED, 100, 40, num_loss_points=0)
    assert 2 * (without_losses + 3 * (of_table - of_ours)) / 1e12 == pytest.approx(2.78, abs=0.005)


def test_losses_read_every_mask_of_every_prediction():
    losses = flops.stage1_macs(RELEASED, 100, 40, 1000) - flops.stage1_macs(RELEASED, 100, 40, 0)
    assert losses == 3 * 10 * (100 * 4 + 40) * 1000 * 256


def test_a_linear_head_and_the_adapter_by_hand():
    config = get_preset("test")
    # MLP 128 -> 64 -> 32 twice; four maps of 16 to 128 channels through rank 8 to 128, thrice.
    head = 128 * 64 + 64 * 32
    adapter = sum(8 * (width + 128) for width in (16, 32, 64, 128))
    assert flops.stage2_macs(config) == 2 * head + 3 * adapter
