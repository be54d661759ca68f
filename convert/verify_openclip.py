"""Runs a converted CLIP beside OpenCLIP itself in PyTorch."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from convert.openclip_torch import build_openclip
from convert.parity import DTYPES, EMBEDDING_BOUND, Check, ErrorTable, Parity
from convert.verification import Verification, verification_images
from uniovseg_jax.models.clip import CLIP
from uniovseg_jax.models.convnext import Block, Downsample, Stem
from uniovseg_jax.models.presets import ClipConfig
from uniovseg_jax.models.text import TextLayer
from uniovseg_jax.models.tokenizer import Tokenizer

_TEXTS = ("a photo of a cat.", "a red ball on the grass", "", "Zürich &amp; 2 trams 🚋 " * 20)
_BLOCKS = (Stem, Block, Downsample, TextLayer)

Outputs = dict[str, np.ndarray]


def verify_openclip(
    config: ClipConfig,
    variables: Any,
    tokenizer: Tokenizer,
    state: Mapping[str, np.ndarray],
    options: Verification,
) -> Parity:
    """Compares every block and both embeddings with a torch model of the same state dict.

    Args:
      config: Of the converted CLIP.
      variables: Collections `params` (with `clip`) and `fixed`.
      tokenizer: Its tokenizer.
      state: The published tensors.
      options: Sizes, and the photograph; a smooth random picture stands in where there is none.
    """
    reference = _load_reference(config, state)
    tokens = np.asarray(tokenizer(list(_TEXTS)))
    runners = {name: _make_runner(config, dtype) for name, dtype in DTYPES.items()}
    errors = ErrorTable()
    for size in options.sizes:
        for image in verification_images(size, options.image):
            expected = _run_reference(reference, config, image, tokens)
            for name, run in runners.items():
                errors.add(name, run(variables, image, tokens), expected)
    worst = errors.worst()
    checks = [
        Check(f"{kind} embedding, largest error", worst[kind]["float32"].largest, EMBEDDING_BOUND)
        for kind in ("image", "text")
    ]
    import open_clip
    import torch

    return Parity(
        title=options.title,
        reference=f"open_clip {open_clip.__version__} with torch {torch.__version__}, float32",
        inputs=[
            options.describe(),
            f"{len(_TEXTS)} texts, one empty and one longer than the context",
        ],
        errors=worst,
        checks=checks,
        notes={"tensors": len(state), "numbers": sum(x.size for x in state.values())},
    )


def _load_reference(config: ClipConfig, state: Mapping[str, np.ndarray]) -> Any:
    """Returns OpenCLIP's model with the published tensors, which it shares."""
    import torch

    model = build_openclip(config)
    own = model.state_dict()
    tensors = {
        # Dense layers may come as 1x1 convolutions, and the other way round.
        name: torch.from_numpy(tensor).reshape(own[name].shape)
        for name, tensor in state.items()
    }
    model.load_state_dict(tensors, assign=True)
    return model


def _run_reference(
    model: Any, config: ClipConfig, image: np.ndarray, tokens: np.ndarray
) -> Outputs:
    """Returns what every block of the torch model puts out, channels last."""
    import torch

    outputs: Outputs = {}

    def keep(name: str, channels_first: bool) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            del module, inputs
            value = output.detach()
            outputs[name] = (value.permute(0, 2, 3, 1) if channels_first else value).numpy()

        return hook

    trunk = model.visual.trunk
    handles = [trunk.stem.register_forward_hook(keep("visual/stem", True))]
    for s, stage in enumerate(trunk.stages):
        if s:
            hook = keep(f"visual/stage_{s}/downsample", True)
            handles.append(stage.downsample.register_forward_hook(hook))
        for b, block in enumerate(stage.blocks):
            handles.append(block.register_forward_hook(keep(f"visual/stage_{s}/block_{b}", True)))
    for i, layer in enumerate(model.transformer.resblocks):
        handles.append(layer.register_forward_hook(keep(f"text/layer_{i}", False)))
    normalised = (image.astype(np.float32) - config.image_mean) / config.image_std
    with torch.no_grad():
        pixels = torch.from_numpy(normalised.astype(np.float32)).permute(0, 3, 1, 2)
        image_embedding = model.encode_image(pixels, normalize=True)
        text_embedding = model.encode_text(
            torch.from_numpy(tokens.astype(np.int64)), normalize=True
        )
    for handle in handles:
        handle.remove()
    outputs["image"] = image_embedding.numpy()
    outputs["text"] = text_embedding.numpy()
    return outputs


def _make_runner(config: ClipConfig, dtype: Any) -> Callable[..., Outputs]:
    """Returns a function of variables, image and tokens that gives what every block puts out."""
    model = CLIP(config, dtype)

    def is_block(module: nn.Module, method: str) -> bool:
        return isinstance(module, _BLOCKS) and method == "__call__"

    @jax.jit
    def compiled(params: Any, image: Any, tokens: Any) -> dict[str, Any]:
        (image_embedding, text_embedding, _), captured = model.apply(
            {"params": params},
            image,
            tokens,
            capture_intermediates=is_block,
            mutable=["intermediates"],
        )
        flat: dict[str, Any] = traverse_util.flatten_dict(captured["intermediates"], sep="/")
        outputs = {
            path.removesuffix("/__call__"): value.astype(jnp.float32)
            for path, (value,) in flat.items()
        }
        return outputs | {"image": image_embedding, "text": text_embedding}

    def run(variables: Any, image: np.ndarray, tokens: np.ndarray) -> Outputs:
        return jax.device_get(compiled(variables["params"]["clip"], image, tokens))

    return run
