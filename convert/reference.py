"""The model in float64 NumPy, in the literal order of operations: what we are measured by.

Nothing is saved or shared here: features are projected at every prediction, masks are built at
stride 4 and resized, thresholds compare probabilities, keys and values are projected per layer and
per call. Parameters are the flat variables of the model, maps are channels-last.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, ndtr

from uniovseg_jax.models.presets import ClipConfig, UniOVSegConfig

Maps = dict[str, Float[np.ndarray, "b _h _w _c"]]


class Variables:
    """Flat variables below a path, as float64."""

    def __init__(self, flat: Mapping[str, Any], prefix: str):
        self._flat, self._prefix = flat, prefix

    def __call__(self, name: str) -> np.ndarray:
        """Returns one array."""
        return np.asarray(self._flat[f"{self._prefix}/{name}"], np.float64)

    def __contains__(self, name: str) -> bool:
        """Tells whether there is such an array."""
        return f"{self._prefix}/{name}" in self._flat

    def below(self, name: str) -> "Variables":
        """Returns the variables of a submodule."""
        return Variables(self._flat, f"{self._prefix}/{name}")


def dense(v: Variables, x: np.ndarray) -> np.ndarray:
    """Product with the kernel, and the bias where there is one."""
    out = x @ v("kernel")
    return out + v("bias") if "bias" in v else out


def layer_norm(v: Variables, x: np.ndarray, eps: float) -> np.ndarray:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * v("scale") + v("bias")


def group_norm(v: Variables, x: np.ndarray, groups: int) -> np.ndarray:
    """Over positions and the channels of a group."""
    b, h, w, c = x.shape
    g = x.reshape(b, h, w, groups, c // groups)
    centred = g - g.mean((1, 2, 4), keepdims=True)
    g = centred / np.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-5)
    return g.reshape(x.shape) * v("scale") + v("bias")


def mlp(v: Variables, x: np.ndarray) -> np.ndarray:
    """Three dense layers with ReLU between them."""
    for i in range(3):
        x = dense(v.below(f"layers_{i}"), x)
        x = np.maximum(x, 0) if i < 2 else x
    return x


def ffn(v: Variables, x: np.ndarray) -> np.ndarray:
    """Two dense layers with ReLU between them."""
    return dense(v.below("fc2"), np.maximum(dense(v.below("fc1"), x), 0))


def convolve(kernel: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Stride 1, zero padding, odd square kernel (k, k, c or 1, d); depthwise where c is 1."""
    k = kernel.shape[0]
    b, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    out = np.zeros((b, h, w, kernel.shape[-1]))
    for i in range(k):
        for j in range(k):
            window = padded[:, i : i + h, j : j + w]
            out += window * kernel[i, j, 0] if kernel.shape[2] == 1 else window @ kernel[i, j]
    return out


def patches(v: Variables, x: np.ndarray) -> np.ndarray:
    """Convolution whose stride is its kernel's side."""
    kernel = v("kernel")
    p, _, c, d = kernel.shape
    b, h, w, _ = x.shape
    x = x.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // p, w // p, p * p * c) @ kernel.reshape(-1, d) + v("bias")


def clip_trunk(flat: Mapping[str, Any], config: ClipConfig, image: np.ndarray) -> Maps:
    """Returns res2..res5 of RGB images (b, h, w, 3) with values 0..255."""
    v = Variables(flat, "params/clip/visual")
    x = (np.asarray(image, np.float64) - config.image_mean) / config.image_std
    x = layer_norm(v.below("stem/norm"), patches(v.below("stem/conv"), x), config.norm_eps)
    maps = {}
    for s, depth in enumerate(config.depths):
        stage = v.below(f"stage_{s}")
        if s:
            x = layer_norm(stage.below("downsample/norm"), x, config.norm_eps)
            x = patches(stage.below("downsample/conv"), x)
        for i in range(depth):
            block = stage.below(f"block_{i}")
            y = convolve(block("conv_dw/kernel"), x) + block("conv_dw/bias")
            y = dense(block.below("fc1"), layer_norm(block.below("norm"), y, config.norm_eps))
            x = x + block("gamma") * dense(block.below("fc2"), y * ndtr(y))
        maps[f"res{s + 2}"] = x
    return maps


def resize(x: np.ndarray, hw: Sequence[int]) -> np.ndarray:
    """Bilinear, half-pixel centres, no antialiasing; axes 1 and 2."""
    for axis, size in ((1, hw[0]), (2, hw[1])):
        length = x.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        shape = [1] * x.ndim
        shape[axis] = size
        part = (at - low).reshape(shape)
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def sample(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear samples (..., c) of a map (h, w, c) at points (..., 2) in [0, 1], zero outside."""
    h, w, _ = x.shape
    u, v = points[..., 0] * w - 0.5, points[..., 1] * h - 0.5
    out = 0.0
    for down in (0, 1):
        for right in (0, 1):
            column, row = np.floor(u) + right, np.floor(v) + down
            weight = (1 - np.abs(u - column)) * (1 - np.abs(v - row))
            inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            at = np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)
            out = out + np.where(inside, weight, 0.0)[..., None] * x[at]
    return np.asarray(out)


def fourier(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Random Fourier features of coordinates in [0, 1]."""
    z = 2 * np.pi * ((2 * x - 1)[..., None] * matrix[0] + (2 * y - 1)[..., None] * matrix[1])
    return np.concatenate([np.sin(z), np.cos(z)], -1)


def sine(y: np.ndarray, x: np.ndarray, dim: int) -> np.ndarray:
    """DETR's features of coordinates that are scaled to 2 pi already."""
    half = dim // 2
    out = []
    for coordinate in (y, x):
        features = np.zeros((*np.shape(coordinate), half))
        for i in range(half):
            angle = coordinate / 10000 ** (2 * (i // 2) / half)
            features[..., i] = np.sin(angle) if i % 2 == 0 else np.cos(angle)
        out.append(features)
    return np.concatenate(out, -1)


def encode_map(fixed: Variables, config: UniOVSegConfig, hw: Sequence[int]) -> np.ndarray:
    """Position encoding (h, w, d) of a map."""
    h, w = hw
    y, x = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    if config.position_encoding == "fourier":
        return fourier(fixed("position_encoding/fourier_matrix"), (x + 0.5) / w, (y + 0.5) / h)
    scale = 2 * np.pi
    return sine((y + 1) / (h + 1e-6) * scale, (x + 1) / (w + 1e-6) * scale, config.dim)


def embed_regions(
    flat: Mapping[str, Any], config: UniOVSegConfig, res5: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    """Returns unit embeddings (n, e) of one image's masks (n, h, w), pooled where logits are >= 0.

    The mode `binary`: a mask that covers no cell of the map gives zeros before the projection.
    """
    h, w = res5.shape[1:3]
    inside = expit(resize(masks, (h, w))) >= 0.5
    weight = inside / np.maximum(inside.sum((1, 2), keepdims=True), 1e-8)
    pooled = np.einsum("nhw,hwc->nc", weight, res5[0])
    v = Variables(flat, "params/clip/head")
    x = layer_norm(v.below("norm"), pooled, config.clip.norm_eps)
    if config.clip.head == "mlp":
        y = dense(v.below("fc1"), x)
        x = dense(v.below("fc2"), y * ndtr(y))
    else:
        x = dense(v.below("proj"), x)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
