"""The whole model: CLIP, pixel decoder, prompt encoder, mask decoder and adapter wired together."""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Num

from uniovseg_jax.models.adapter import FeatureAdapter, source_names, source_widths
from uniovseg_jax.models.clip import CLIP
from uniovseg_jax.models.layers import l2_normalize
from uniovseg_jax.models.mask_decoder import DecoderMemory, DecoderOutput, MaskDecoder
from uniovseg_jax.models.pixel_decoder import PixelDecoder, PixelFeatures
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.prompt_encoder import PromptEncoder, PromptType
from uniovseg_jax.ops.pooling import mask_pooling

Part = Literal["clip", "masks", "adapter"]
TrunkFeatures = dict[str, Float[Array, "b _ _ _"]]


@struct.dataclass
class ImageFeatures:
    """What the network sees in one batch of images.

    Attributes:
      trunk: CLIP's maps `res2` to `res5`.
      pixel: The pixel decoder's maps, `PixelFeatures`.
    """

    trunk: dict[str, Any]
    pixel: Any


class UniOVSeg(nn.Module):
    """Open-vocabulary segmentation from unpaired mask and text supervision.

    Every method touches only the parts that it needs, so variables may hold some of the parts.
    Images may have any sides that are multiples of 32.

    Source: arXiv 2402.08960.

    Attributes:
      config: Sizes and choices.
      dtype: Computation type of CLIP and the mask decoder; norms, softmax, mask logits, the pixel
        decoder and the adapter are always float32.
      recompute: Whether layers of the pixel and the mask decoder are computed again for the
        gradient instead of being kept: less memory, more time, the same result.
    """

    config: UniOVSegConfig
    dtype: Any = jnp.float32
    recompute: bool = False

    def setup(self) -> None:
        """Declares the parts; their names are the top-level names of the parameters."""
        self.clip = CLIP(self.config.clip, self.dtype)
        self.pixel_decoder = PixelDecoder(self.config, self.recompute)
        self.prompt_encoder = PromptEncoder(self.config)
        self.mask_decoder = MaskDecoder(self.config, self.dtype, self.recompute)
        if self.config.adapter is not None:
            self.adapter = FeatureAdapter(self.config)

    def encode_trunk(self, image: Num[Array, "b h w 3"]) -> TrunkFeatures:
        """Returns CLIP's maps of RGB images with values 0..255."""
        return self.clip.trunk_features(image)

    def decode_pixels(self, trunk: TrunkFeatures) -> PixelFeatures:
        """Returns the pixel decoder's maps."""
        return self.pixel_decoder(trunk)

    def encode_image(self, image: Num[Array, "b h w 3"]) -> ImageFeatures:
        """Returns CLIP's and the pixel decoder's maps of RGB images with values 0..255."""
        trunk = self.encode_trunk(image)
        return ImageFeatures(trunk, self.decode_pixels(trunk))

    def prepare_masks(self, features: ImageFeatures) -> DecoderMemory:
        """Computes what all prompts on these images share."""
        return self.mask_decoder.prepare(features.pixel)

    def decode_masks(
        self,
        features: ImageFeatures,
        memory: DecoderMemory,
        boxes_xyxy: Float[Array, "b q 4"],
        prompt_type: PromptType,
    ) -> DecoderOutput:
        """Predicts masks for prompts; see `compute_masks` for their logits.

        Args:
          features: From `encode_image`.
          memory: From `prepare_masks`.
          boxes_xyxy: Corners in pixels of the network input; for points, `points_to_boxes`.
          prompt_type: What the boxes are.
        """
        mask_features = features.pixel.mask_features
        image_hw = (4 * mask_features.shape[1], 4 * mask_features.shape[2])
        tokens = self.prompt_encoder(mask_features, boxes_xyxy, image_hw, prompt_type)
        return self.mask_decoder.decode(memory, tokens, prompt_type)

    def embed_regions(
        self,
        features: ImageFeatures | TrunkFeatures,
        mask_logits: Float[Array, "b n h w"],
        adapt: bool,
    ) -> Float[Array, "b n e"]:
        """Returns L2-normalised region embeddings.

        Args:
          features: From `encode_image`; CLIP's maps alone are enough for an adapter that reads
            nothing else, and without adapting. They may come from another scale of the image.
          mask_logits: At any resolution; a pixel counts where the logit is >= 0.
          adapt: Whether the adapter of stage 2 takes part.

        Raises:
          ValueError: If the adapter reads maps that `features` does not hold.
        """
        maps = self._maps(features)
        if not adapt:
            pooled = {"clip": self._pool(maps["res5"], mask_logits)}
            return self.embed_pooled(pooled, adapt=False)
        if self._adapter_mode() == "pooled":
            return self.embed_pooled(self.pool_regions(features, mask_logits), adapt=True)
        self._check_sources(maps)
        z = self._pool(maps["res5"], mask_logits)
        delta = self.adapter.from_maps(maps, mask_logits, self.config.pooling)
        return l2_normalize(self.clip.project(z + delta))

    def pool_regions(
        self, features: ImageFeatures | TrunkFeatures, mask_logits: Float[Array, "b n h w"]
    ) -> dict[str, Float[Array, "b n _"]]:
        """Returns averages inside each mask: `clip`, and for `pooled` adapters one per source.

        These are all that an adapter of mode `pooled` ever sees, so it can train from them alone.

        Raises:
          ValueError: If the adapter reads maps that `features` does not hold.
        """
        maps = self._maps(features)
        pooled = {"clip": self._pool(maps["res5"], mask_logits)}
        if self.config.adapter is not None and self.config.adapter.mode == "pooled":
            self._check_sources(maps)
            for name in source_names(self.config.adapter):
                pooled[name] = self._pool(maps[name], mask_logits)
        return pooled

    def embed_pooled(
        self, pooled: dict[str, Float[Array, "*n _"]], adapt: bool
    ) -> Float[Array, "*n e"]:
        """Returns L2-normalised region embeddings of what `pool_regions` gave.

        Raises:
          ValueError: If the adapter does not work on pooled vectors.
        """
        z = pooled["clip"]
        if adapt:
            if self._adapter_mode() != "pooled":
                raise ValueError(
                    "An adapter of mode 'dense' works on maps, not on pooled vectors; "
                    "use embed_regions."
                )
            z = z + self.adapter.from_pooled(pooled)
        return l2_normalize(self.clip.project(z))

    def encode_text(self, tokens: Int[Array, "n t"]) -> Float[Array, "n e"]:
        """Returns L2-normalised text embeddings of padded token ids."""
        return self.clip.encode_text(tokens)

    def logit_scale(self) -> Float[Array, ""]:
        """Returns CLIP's factor on cosines, at most 100."""
        return self.clip.logit_scale()

    def touch(self, part: Part) -> None:
        """Runs every module of a part once on small zeros, so that all parameters exist."""
        cfg = self.config
        if part == "clip":
            tokens = jnp.zeros((1, cfg.clip.context_length), jnp.int32)
            self.clip(jnp.zeros((1, 32, 32, 3)), tokens)
        elif part == "masks":
            trunk = {
                name: jnp.zeros((1, side, side, width))
                for (name, side), width in zip(
                    {"res2": 8, "res3": 4, "res4": 2, "res5": 1}.items(),
                    cfg.clip.widths,
                    strict=True,
                )
            }
            features = ImageFeatures(trunk, self.decode_pixels(trunk))
            memory = self.prepare_masks(features)
            for prompt_type in ("point", "box"):
                self.decode_masks(features, memory, jnp.zeros((1, 1, 4)), prompt_type)
        else:
            self._adapter_mode()  # Complains where there is none.
            widths = source_widths(cfg)
            self.adapter.from_pooled({name: jnp.zeros((1, w)) for name, w in widths.items()})

    def _adapter_mode(self) -> str:
        if self.config.adapter is None:
            raise ValueError("This model's configuration has no adapter.")
        return self.config.adapter.mode

    def _check_sources(self, maps: dict[str, Float[Array, "b _ _ _"]]) -> None:
        assert self.config.adapter is not None
        missing = [name for name in source_names(self.config.adapter) if name not in maps]
        if missing:
            raise ValueError(
                f"The adapter reads {', '.join(missing)}, which the pixel decoder makes; "
                "pass the features of encode_image, not CLIP's maps alone."
            )

    def _maps(self, features: ImageFeatures | TrunkFeatures) -> dict[str, Float[Array, "b _ _ _"]]:
        """Returns all maps by the names that the adapter uses."""
        if not isinstance(features, ImageFeatures):
            return features
        p32, p16, p8 = features.pixel.multi_scale_features
        pixel = {"p32": p32, "p16": p16, "p8": p8, "p4": features.pixel.fpn_features}
        return features.trunk | pixel

    def _pool(
        self, x: Float[Array, "b h w c"], mask_logits: Float[Array, "b n h2 w2"]
    ) -> Float[Array, "b n c"]:
        return mask_pooling(x, mask_logits, self.config.pooling)


def init_variables(config: UniOVSegConfig, rng: Array, parts: tuple[Part, ...]) -> dict[str, Any]:
    """Draws the parameters of some parts of the model.

    Args:
      config: The model.
      rng: Key; a part's parameters do not depend on which other parts are drawn.
      parts: Some of `clip`, `masks` (pixel decoder, prompt encoder, mask decoder) and `adapter`.

    Returns:
      Collections `params` and `fixed`, plain nested dicts of float32 arrays.

    Raises:
      ValueError: If a part is unknown, or the adapter is asked for and the model has none.
    """
    variables: dict[str, Any] = {"params": {}, "fixed": {}}
    for part in _check_parts(parts):
        for kind, tree in _init_part(config, part, rng).items():
            variables[kind].update(tree)
    return variables


def abstract_variables(config: UniOVSegConfig, parts: tuple[Part, ...]) -> dict[str, Any]:
    """Returns shapes and dtypes of `init_variables` without computing anything."""
    return jax.eval_shape(lambda key: init_variables(config, key, parts), jax.random.key(0))


# The compiler drops the forward pass, because nothing of it is returned. One program per part, so
# that a process that asks for other combinations of parts compiles none of them twice.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _init_part(config: UniOVSegConfig, part: Part, rng: Array) -> dict[str, Any]:
    return dict(UniOVSeg(config).init(rng, part, method="touch"))


def _check_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    unknown = sorted(set(parts) - {"clip", "masks", "adapter"})
    if unknown:
        raise ValueError(f"Unknown parts {', '.join(unknown)}; expected clip, masks, adapter.")
    return parts
