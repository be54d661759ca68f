"""Pixel decoder, prompt encoder and mask decoder of `convert.reference`, likewise literal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from convert.reference import (
    Maps,
    Variables,
    convolve,
    dense,
    encode_map,
    ffn,
    fourier,
    group_norm,
    layer_norm,
    mlp,
    resize,
    sample,
    sine,
)
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.prompt_encoder import PromptType

Shapes = Sequence[tuple[int, int]]


def deformable_attention(
    v: Variables,
    config: UniOVSegConfig,
    queries: np.ndarray,
    values: np.ndarray,
    reference: np.ndarray,
    shapes: Shapes,
) -> np.ndarray:
    """Samples every level of every head, level by level."""
    b, count, dim = queries.shape
    heads = config.num_heads
    value = dense(v.below("value_proj"), values).reshape(b, -1, heads, dim // heads)
    offsets = dense(v.below("sampling_offsets"), queries).reshape(b, count, heads, 3, 4, 2)
    weights = softmax(
        dense(v.below("attention_weights"), queries).reshape(b, count, heads, 12), axis=-1
    ).reshape(b, count, heads, 3, 4)
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    out = np.zeros((b, count, heads, dim // heads))
    for i in range(b):
        for head in range(heads):
            for level, (h, w) in enumerate(shapes):
                rows = value[i, starts[level] : starts[level + 1], head].reshape(h, w, -1)
                at = reference[:, None] + offsets[i, :, head, level] / (w, h)
                found = sample(rows, at)
                out[i, :, head] += (found * weights[i, :, head, level, :, None]).sum(1)
    return dense(v.below("output_proj"), out.reshape(b, count, dim))


def pixel_decoder(
    flat: Mapping[str, Any], config: UniOVSegConfig, trunk: Maps
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Returns the mask features, the maps of strides 32, 16, 8, and the pyramid's last map."""
    v, fixed = Variables(flat, "params/pixel_decoder"), Variables(flat, "fixed/pixel_decoder")
    tokens, pos, reference, shapes = [], [], [], []
    for level, name in enumerate(("res5", "res4", "res3")):
        x = dense(v.below(f"input_proj_{level}"), trunk[name])
        norm = v.below(f"input_norm_{level}")
        if config.input_norm == "gn":
            x = group_norm(norm, x, config.num_groups)
        else:
            x = layer_norm(norm, x, 1e-6)
        b, h, w, d = x.shape
        tokens.append(x.reshape(b, h * w, d))
        pos.append(encode_map(fixed, config, (h, w)).reshape(h * w, d) + v("level_embed")[level])
        reference += [((j + 0.5) / w, (i + 0.5) / h) for i in range(h) for j in range(w)]
        shapes.append((h, w))
    x, encoding = np.concatenate(tokens, 1), np.concatenate(pos)
    for i in range(config.encoder_layers):
        layer = v.below(f"encoder_{i}")
        attended = deformable_attention(
            layer.below("self_attn"), config, x + encoding, x, np.array(reference), shapes
        )
        x = layer_norm(layer.below("norm1"), x + attended, 1e-5)
        x = layer_norm(layer.below("norm2"), x + ffn(layer.below("ffn"), x), 1e-5)
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    maps = [
        x[:, starts[i] : starts[i + 1]].reshape(-1, h, w, config.dim)
        for i, (h, w) in enumerate(shapes)
    ]
    steps = ["res2"] if config.fpn == "last" else ["res4", "res3", "res2"]
    y = maps[2] if config.fpn == "last" else maps[0]
    for name in steps:
        lateral = dense(v.below(f"lateral_{name}"), trunk[name])
        lateral = group_norm(v.below(f"lateral_norm_{name}"), lateral, config.num_groups)
        y = lateral + resize(y, lateral.shape[1:3])
        y = convolve(v(f"output_{name}/kernel"), y)
        y = np.maximum(group_norm(v.below(f"output_norm_{name}"), y, config.num_groups), 0)
    return dense(v.below("mask_features"), y), maps, y


def prompt_tokens(
    flat: Mapping[str, Any],
    config: UniOVSegConfig,
    mask_features: np.ndarray,
    boxes: np.ndarray,
    image_hw: tuple[int, int],
    prompt_type: PromptType,
) -> np.ndarray:
    """Returns the tokens (b, q, 7, d) of boxes (b, q, 4) in pixels."""
    v, fixed = Variables(flat, "params/prompt_encoder"), Variables(flat, "fixed/prompt_encoder")
    height, width = image_hw
    boxes = np.asarray(boxes, np.float64)
    x, y = boxes[..., 0::2], boxes[..., 1::2]  # (b, q, 2): the two corners.
    centre = np.stack([x.mean(-1) / width, y.mean(-1) / height], -1)
    content = np.stack([sample(*pair) for pair in zip(mask_features, centre, strict=True)])
    kind = v("point_embed") if prompt_type == "point" else v("box_embed")
    if config.position_encoding == "fourier":
        matrix = fixed("position_encoding/fourier_matrix")
        encoding = fourier(matrix, x / width, y / height)
    else:
        turn = 2 * np.pi
        encoding = sine(y / (height + 1e-6) * turn, x / (width + 1e-6) * turn, config.dim)
    corners = encoding + v("corner_embed") + kind + content[:, :, None]
    if prompt_type == "point":
        corners = corners + v("click_embed")[1]
    masks = np.broadcast_to(v("mask_embed"), (*boxes.shape[:2], *v("mask_embed").shape))
    if config.embed_all_tokens:
        masks = masks + kind + content[:, :, None]
    return np.concatenate([corners, masks], 2)


def attention(
    v: Variables,
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    attend: np.ndarray | None = None,
) -> np.ndarray:
    """Attends from (n, t, d) to (n, s, d); `attend` (n, t, s) is where a query may look."""
    heads, width = v("query/bias").shape
    out = np.zeros((*queries.shape[:2], heads, width))
    for head in range(heads):
        q, k, u = (
            x @ v(f"{name}/kernel")[:, head] + v(f"{name}/bias")[head]
            for x, name in ((queries, "query"), (keys, "key"), (values, "value"))
        )
        logits = q @ k.swapaxes(-1, -2) / math.sqrt(width)
        if attend is not None:
            logits = np.where(attend, logits, -np.inf)
        out[:, :, head] = softmax(logits, axis=-1) @ u
    return np.einsum("nthc,hcd->ntd", out, v("out/kernel")) + v("out/bias")


def mask_decoder(
    flat: Mapping[str, Any],
    config: UniOVSegConfig,
    mask_features: np.ndarray,
    maps: Sequence[np.ndarray],
    tokens: np.ndarray,
    prompt_type: PromptType,
) -> tuple[list[np.ndarray], list[np.ndarray | None], list[np.ndarray]]:
    """Returns one entry per prediction: mask logits (b, q, k, h, w) and qualities (b, q, k).

    The third list holds, per layer, where each prompt attended (b, q, s) before an empty mask is
    opened: what rounding may flip.
    """
    v, fixed = Variables(flat, "params/mask_decoder"), Variables(flat, "fixed/mask_decoder")
    batch, prompts, count, dim = tokens.shape
    kinds = range(1, config.masks_per_point + 1) if prompt_type == "point" else [0]
    all_masks: list[np.ndarray] = []
    all_ious: list[np.ndarray | None] = []
    attended: list[np.ndarray] = []

    def predict(x: np.ndarray) -> None:
        normed = layer_norm(v.below("decoder_norm"), x, 1e-5)
        features = dense(v.below("feat_embed"), mask_features)
        masks, ious = [], []
        for kind in kinds:
            embed = mlp(v.below(f"mask_embed_{kind}"), normed[:, :, 2 + kind])
            masks.append(np.einsum("bqd,bhwd->bqhw", embed, features, optimize=True))
            if config.quality_head:
                quality = mlp(v.below(f"iou_embed_{kind}"), normed[:, :, 2 + kind])
                ious.append(expit(quality[..., 0]))
        all_masks.append(np.stack(masks, 2))
        all_ious.append(np.stack(ious, 2) if ious else None)

    def within(layer: str, x: np.ndarray, pos: np.ndarray | float) -> np.ndarray:
        keys = (x + pos).reshape(-1, count, dim)
        return attention(v.below(layer), keys, keys, x.reshape(keys.shape)).reshape(x.shape)

    x = layer_norm(v.below("extra_norm"), tokens + within("extra_self_attn", tokens, 0.0), 1e-5)
    predict(x)
    for layer in range(config.decoder_layers):
        level = layer % 3
        h, w = maps[level].shape[1:3]
        logits = all_masks[-1].reshape(-1, *all_masks[-1].shape[-2:])
        probs = expit(resize(logits, (h, w))).reshape(batch, prompts, -1, h * w)
        union = (probs >= 0.5).any(2)
        attended.append(union)
        attend = np.where(union.any(-1, keepdims=True), union, True)
        source = maps[level].reshape(batch, h * w, dim) + v("level_embed")[level]
        keys = source + encode_map(fixed, config, (h, w)).reshape(h * w, dim)
        update = attention(
            v.below(f"cross_attn_{layer}"),
            (x + tokens).reshape(batch, -1, dim),
            keys,
            source,
            np.repeat(attend, count, axis=1),
        )
        x = layer_norm(v.below(f"cross_norm_{layer}"), x + update.reshape(x.shape), 1e-5)
        x = x + within(f"self_attn_{layer}", x, tokens)
        x = layer_norm(v.below(f"self_norm_{layer}"), x, 1e-5)
        x = x + ffn(v.below(f"ffn_{layer}"), x)
        x = layer_norm(v.below(f"ffn_norm_{layer}"), x, 1e-5)
        predict(x)
    return all_masks, all_ious, attended
