"""Embeddings of an image's regions, from one view of it or from several."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.ops.pooling import mask_weights
from uniovseg_jax.proposals import pad_masks
from uniovseg_jax.weights.store import Pretrained

_STRIDE = 32


class RegionEncoder:
    """Embeds regions; compiled once per shape of its inputs.

    Args:
      pretrained: A model with the part `clip`; an adapter takes part where there is one.
      scales: Factors of the input's size.
      flip: Whether to look at each of them mirrored as well.

    Raises:
      ValueError: If there is no scale, or one is not positive.
    """

    def __init__(
        self, pretrained: Pretrained, scales: Sequence[float] = (1.0,), flip: bool = False
    ):
        if not scales or min(scales) <= 0:
            raise ValueError(f"Expected positive scales, at least one; got {tuple(scales)}.")
        self._views = list(itertools.product(scales, (False, True) if flip else (False,)))
        model, adapt = pretrained.model, "adapter" in pretrained.parts

        def embed(
            module: UniOVSeg, features: ImageFeatures, mask_logits: Float[Array, "n h w"]
        ) -> Float[Array, "n e"]:
            vectors = module.embed_regions(features, mask_logits[None], adapt)[0]
            # Of a mask without any cell the network sees nothing: whatever it says is no region's.
            # The compiler makes the same weights once, for here and for pooling.
            map_hw = (features.trunk["res5"].shape[1], features.trunk["res5"].shape[2])
            weights = mask_weights(mask_logits[None], map_hw, module.config.pooling)[0]
            return jnp.where(weights.any((-2, -1))[:, None], vectors, 0.0)

        def embed_view(
            module: UniOVSeg,
            pixels: Num[Array, "1 H W 3"],
            mask_logits: Float[Array, "n h w"],
            hw: tuple[int, int],
            flip: bool,
        ) -> Float[Array, "n e"]:
            # Antialiased, as Pillow resizes pictures.
            view = jax.image.resize(pixels.astype(jnp.float32), (1, *hw, 3), "linear")
            if flip:
                view, mask_logits = view[:, :, ::-1], mask_logits[..., ::-1]
            return embed(module, module.encode_image(view), mask_logits)

        def apply(method: Any) -> Any:
            return lambda variables, *inputs, **options: model.apply(
                variables, *inputs, **options, method=method
            )

        self._embed = jax.jit(apply(embed))
        self._embed_view = jax.jit(apply(embed_view), static_argnames=("hw", "flip"))

    def __call__(
        self,
        variables: Any,
        pixels: Num[np.ndarray, "1 H W 3"],
        features: ImageFeatures,
        mask_logits: Float[np.ndarray, "n h w"],
    ) -> Float[np.ndarray, "n e"]:
        """Returns unit vectors, or the mean of those of all views.

        A mask that weighs no cell of CLIP's map gets zeros, which are equally unlike all names.

        Args:
          variables: Of the model.
          pixels: Input of the network.
          features: From `encode_image` of it.
          mask_logits: At any resolution.
        """
        padded = pad_masks([mask_logits])[0]
        found = []
        for scale, flip in self._views:
            if scale == 1.0 and not flip:
                found.append(self._embed(variables, features, padded))
                continue
            hw = tuple(
                max(1, round(scale * side / _STRIDE)) * _STRIDE for side in pixels.shape[1:3]
            )
            view = self._embed_view(variables, pixels, padded, hw=hw, flip=flip)
            found.append(view)
        return np.mean([np.asarray(x)[: len(mask_logits)] for x in found], axis=0)
