"""Work of the model by formula: multiply-adds that the results need, without any wasted ones.

Masks come from features that are resized and projected once, keys and values are projected once for
all prompts. Norms, activations and the softmax are left out: they are a few percent.
"""

from uniovseg_jax.models.adapter import source_names, source_widths
from uniovseg_jax.models.presets import ClipConfig, UniOVSegConfig

_NUM_LEVELS = 3
_SAMPLES_PER_LEVEL = 4
_LOCATION_TOKENS = 2


def trunk_macs(clip: ClipConfig, side: int) -> int:
    """Multiply-adds of CLIP's trunk for one square image of `side` pixels."""
    size = side // 4
    total = size**2 * 48 * clip.widths[0]
    for i, (width, depth) in enumerate(zip(clip.widths, clip.depths, strict=True)):
        if i:
            size //= 2
            total += size**2 * 4 * clip.widths[i - 1] * width
        # Depthwise 7 x 7, then two dense layers around a four times wider hidden one.
        total += depth * size**2 * (49 * width + 8 * width**2)
    return total


def pixel_decoder_macs(config: UniOVSegConfig, side: int) -> int:
    """Multiply-adds of the pixel decoder for one image, with the pyramid's last step only."""
    d, levels = config.dim, _level_sizes(side)
    tokens = sum(levels)
    project = d * sum(
        size * width for size, width in zip(levels, config.clip.widths[:0:-1], strict=True)
    )
    samples = config.num_heads * _NUM_LEVELS * _SAMPLES_PER_LEVEL
    # Values and output; offsets (x and y) and weights; feed-forward network; four neighbours.
    layer = 2 * d * d + 3 * d * samples + 2 * d * config.encoder_ffn_dim
    layer += samples * 4 * (d // config.num_heads)
    # Lateral 1 x 1, output 3 x 3, mask features.
    pyramid = (side // 4) ** 2 * (config.clip.widths[0] * d + 10 * d * d)
    return project + tokens * layer * config.encoder_layers + pyramid


def decoder_memory_macs(config: UniOVSegConfig, side: int) -> int:
    """Multiply-adds for what all prompts on one image share: pixel embeddings, keys and values."""
    return config.dim**2 * ((side // 4) ** 2 + 2 * _cells_read(config, side))


def prompt_macs(
    config: UniOVSegConfig, side: int, num_prompts: int, num_masks: int, whole_masks: bool
) -> int:
    """Multiply-adds of the mask decoder for the prompts of one image, beside what they share.

    Args:
      config: The model.
      side: Side of the image in pixels.
      num_prompts: Points or boxes.
      num_masks: Masks of each.
      whole_masks: Whether the last prediction's masks are made at stride 4.
    """
    d, layers, cells = config.dim, config.decoder_layers, _cells_read(config, side)
    per_prompt = _LOCATION_TOKENS + 1 + config.masks_per_point
    tokens = num_prompts * per_prompt
    # Masks of attention, and whole ones.
    masks = num_prompts * num_masks * d * (cells + whole_masks * (side // 4) ** 2)
    # Queries and outputs are projected, keys and values are not.
    across = 2 * cells * tokens * d + 2 * layers * tokens * d * d
    within = (layers + 1) * tokens * (4 * d * d + 2 * per_prompt * d)
    ffn = 2 * layers * tokens * d * config.decoder_ffn_dim
    # Two networks of three layers; that of the quality ends in one number.
    heads = (layers + 1) * num_prompts * num_masks * (5 * d * d + d)
    return masks + across + within + ffn + heads


def stage1_macs(
    config: UniOVSegConfig, num_points: int, num_boxes: int, num_loss_points: int
) -> int:
    """Multiply-adds of one image in a step of stage 1: the trunk forward, all else three times.

    Args:
      config: The model.
      num_points: Point prompts.
      num_boxes: Box prompts.
      num_loss_points: Places at which every prediction's masks are read.
    """
    side, masks = config.image_size, config.masks_per_point
    trained = pixel_decoder_macs(config, side) + decoder_memory_macs(config, side)
    trained += prompt_macs(config, side, num_points, masks, whole_masks=False)
    trained += prompt_macs(config, side, num_boxes, 1, whole_masks=False)
    num_masks = num_points * masks + num_boxes
    trained += (config.decoder_layers + 1) * num_masks * num_loss_points * config.dim
    return trunk_macs(config.clip, side) + 3 * trained


def stage2_macs(config: UniOVSegConfig) -> int:
    """Multiply-adds of one pair in a step of stage 2: the frozen head twice, the adapter thrice."""
    assert config.adapter is not None
    clip, widths = config.clip, source_widths(config)
    d = clip.widths[-1]
    adapter = sum(config.adapter.rank * (widths[name] + d) for name in source_names(config.adapter))
    hidden = 2 * clip.embed_dim
    head = d * clip.embed_dim if clip.head == "linear" else hidden * (d + clip.embed_dim)
    return 2 * head + 3 * adapter


def _cells_read(config: UniOVSegConfig, side: int) -> int:
    """Cells of all maps to which the layers of the mask decoder attend, one after the other."""
    levels = _level_sizes(side)
    return sum(levels[i % _NUM_LEVELS] for i in range(config.decoder_layers))


def _level_sizes(side: int) -> list[int]:
    """Cells at strides 32, 16 and 8."""
    return [(side // stride) ** 2 for stride in (32, 16, 8)]
