"""OpenCLIP itself, in PyTorch: the reference of every conversion."""

import importlib.util
import pathlib
from typing import Any

from convert.openclip_models import trunk_name
from uniovseg_jax.models.presets import ClipConfig

# Operators vanish with the library that declared them.
_KEEP_ALIVE: list[object] = []


def import_open_clip() -> Any:
    """Imports `open_clip`, beside a torchvision whose compiled operators do not load as well.

    Those operators load only beside the very build of torch that they were made for, and a CPU
    build of torch beside a CUDA build of torchvision is common. OpenCLIP calls none of them, but
    importing torchvision registers a rule for `nms`, so the operator must have been declared.
    A torchvision whose extension loads is left alone.

    Raises:
      ImportError: If one of the packages is missing.
    """
    needed = ("torch", "torchvision", "open_clip")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{', '.join(missing)} is not installed; expected pip install 'uniovseg_jax[convert]'."
        )
    import torch

    torchvision: Any = importlib.util.find_spec("torchvision")
    try:
        for extension in pathlib.Path(torchvision.origin).parent.glob("_C*"):
            torch.ops.load_library(str(extension))
    except OSError:
        if not _KEEP_ALIVE:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEEP_ALIVE.append(library)
    import open_clip

    return open_clip


def build_openclip(config: ClipConfig) -> Any:
    """Returns OpenCLIP's model of these sizes, for evaluation, with the weights of its own start.

    Raises:
      ImportError: If OpenCLIP is missing.
      ValueError: If timm has no ConvNeXt of these sizes.
    """
    vision: Any = {
        "timm_model_name": trunk_name(config),
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": config.head,
        "image_size": config.image_size,
    }
    text: Any = {
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_layers,
    }
    open_clip = import_open_clip()
    return open_clip.CLIP(embed_dim=config.embed_dim, vision_cfg=vision, text_cfg=text).eval()
