"""OpenCLIP's ConvNeXt CLIPs: their sizes by name, or from the JSON that comes with a model."""

import importlib.util
import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from uniovseg_jax.models.presets import CLIP_VARIANTS, ClipConfig

# timm's plain ConvNeXts: depths, widths, epsilon of the norms.
_TRUNKS: dict[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "convnext_atto": ((2, 2, 6, 2), (40, 80, 160, 320), 1e-6),
    "convnext_femto": ((2, 2, 6, 2), (48, 96, 192, 384), 1e-6),
    "convnext_pico": ((2, 2, 6, 2), (64, 128, 256, 512), 1e-6),
    "convnext_nano": ((2, 2, 8, 2), (80, 160, 320, 640), 1e-6),
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768), 1e-6),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768), 1e-6),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024), 1e-6),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536), 1e-6),
    "convnext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048), 1e-6),
    "convnext_xxlarge": ((3, 4, 30, 3), (384, 768, 1536, 3072), 1e-5),
}
# Those whose dense layers are 1x1 convolutions: the same numbers, published with two more axes.
_CONV_MLPS = ("convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano")
# What our towers compute anyway; a JSON that asks for something else is another architecture.
_VISION_FIXED = {"timm_pool": ("", None), "timm_proj_bias": (False, None)}
_TEXT_FIXED = {
    "hf_model_name": (None,),
    "embed_cls": (False, None),
    "no_causal_mask": (False, None),
    "pool_type": ("argmax", None),
    "proj_bias": (False, None),
    "act_kwargs": (None,),
    "ls_init_value": (None,),
}


def read_config(name: str | None, path: str | os.PathLike[str] | None) -> ClipConfig:
    """Returns the sizes of a model by its name or from its JSON, whichever is given.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If not exactly one is given, or as `config_by_name` and `config_from_json`.
    """
    if bool(name) == bool(path):
        raise ValueError("Give --model_name or --model_config, one of the two.")
    return config_by_name(name) if name else config_from_json(path or "")


def config_by_name(name: str) -> ClipConfig:
    """Returns the sizes of a model that OpenCLIP knows by name.

    Raises:
      ValueError: If it is neither a ConvNeXt of `models.presets` nor one whose JSON the installed
        `open_clip_torch` brings along.
    """
    if name in CLIP_VARIANTS and name.startswith("convnext"):
        return CLIP_VARIANTS[name]
    folder = open_clip_folder()
    jsons = {} if folder is None else {p.stem: p for p in (folder / "model_configs").glob("*.json")}
    if name in jsons:
        return config_from_json(jsons[name])
    known = sorted({n for n in (*CLIP_VARIANTS, *jsons) if n.startswith("convnext_")})
    raise ValueError(
        f"Unknown model_name {name!r}; expected one of {', '.join(known)}, or --model_config "
        "with the model's OpenCLIP JSON."
    )


def open_clip_folder() -> pathlib.Path | None:
    """Finds the installed `open_clip` without importing it, which would load torch."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        return None
    return pathlib.Path(spec.submodule_search_locations[0])


def config_from_json(path: str | os.PathLike[str]) -> ClipConfig:
    """Returns the sizes that an OpenCLIP model JSON describes.

    Both layouts are read: the bare model configuration, and the `open_clip_config.json` of a hub
    with `model_cfg` and `preprocess_cfg` (mean and standard deviation).

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is no such JSON, or describes something that is no plain ConvNeXt CLIP.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected an OpenCLIP model JSON.")
    try:
        return _read_json(json.loads(file.read_text(encoding="utf-8")))
    except _OtherModelError as error:
        raise ValueError(f"{file}: {error}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{file} is no OpenCLIP model JSON with embed_dim, vision_cfg.timm_model_name and "
            f"text_cfg: {type(error).__name__}: {error}."
        ) from error


class _OtherModelError(Exception):
    """A model JSON of something that is no plain ConvNeXt CLIP."""


def _read_json(document: Any) -> ClipConfig:
    preprocess = document.get("preprocess_cfg") or {}
    model = document.get("model_cfg", document)
    vision, text = model["vision_cfg"], model["text_cfg"]
    trunk = vision["timm_model_name"]
    if trunk not in _TRUNKS:
        raise _OtherModelError(
            f"timm_model_name is {trunk!r}; expected one of {', '.join(_TRUNKS)}."
        )
    _check_fixed(vision, _VISION_FIXED, "vision_cfg")
    _check_fixed(text, _TEXT_FIXED, "text_cfg")
    if model.get("quick_gelu"):
        raise _OtherModelError("quick_gelu is set; expected the exact GELU.")
    head = vision.get("timm_proj", "linear")
    if head not in ("mlp", "linear"):
        raise _OtherModelError(f"timm_proj is {head!r}; expected mlp or linear.")
    depths, widths, eps = _TRUNKS[trunk]
    default = ClipConfig()
    return ClipConfig(
        depths=depths,
        widths=widths,
        norm_eps=eps,
        embed_dim=_size(model, "embed_dim"),
        head=head,
        text_width=_size(text, "width", 512),
        text_heads=_size(text, "heads", 8),
        text_layers=_size(text, "layers", 12),
        image_size=_one_side(vision),
        vocab_size=_size(text, "vocab_size", default.vocab_size),
        context_length=_size(text, "context_length", default.context_length),
        image_mean=_times_255(preprocess.get("mean"), default.image_mean),
        image_std=_times_255(preprocess.get("std"), default.image_std),
    )


def _check_fixed(values: Mapping[str, Any], allowed: Mapping[str, Any], where: str) -> None:
    for key, choices in allowed.items():
        if values.get(key) not in choices:
            raise _OtherModelError(f"{where}.{key} is {values[key]!r}; expected {choices[0]!r}.")


def _size(values: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Returns a positive whole number; without a default it has to be there."""
    value = values.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise _OtherModelError(f"{key} is {value!r}; expected a positive whole number.")
    return value


def _one_side(vision: Mapping[str, Any]) -> int:
    size = vision.get("image_size", 224)
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if isinstance(size, list):
        raise _OtherModelError(f"image_size is {size}; expected a square.")
    return _size({"image_size": size}, "image_size")


def _times_255(values: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    """OpenCLIP normalises images of 0..1, our towers those of 0..255."""
    if values is None:
        return default
    if not isinstance(values, list) or len(values) != 3:
        raise _OtherModelError(f"preprocess_cfg: expected three values, got {values!r}.")
    # The published constants exactly, where they are meant.
    if all(abs(255 * v - d) < 1e-4 for v, d in zip(values, default, strict=True)):
        return default
    return tuple(255 * float(v) for v in values)


def has_conv_mlp(config: ClipConfig) -> bool:
    """Tells whether timm publishes the dense layers of this trunk as 1x1 convolutions."""
    sizes = (tuple(config.depths), tuple(config.widths))
    return any(_TRUNKS[name][:2] == sizes for name in _CONV_MLPS)


def trunk_name(config: ClipConfig) -> str:
    """Returns the timm name of a trunk of these sizes.

    Raises:
      ValueError: If timm has no plain ConvNeXt of these sizes.
    """
    for name, (depths, widths, _) in _TRUNKS.items():
        if (tuple(config.depths), tuple(config.widths)) == (depths, widths):
            return name
    raise ValueError(f"timm has no ConvNeXt of depths {config.depths} and widths {config.widths}.")


def shape_of(state: Mapping[str, np.ndarray], name: str, rank: int, kind: str) -> tuple[int, ...]:
    """Returns the shape of a tensor that tells a size.

    Raises:
      ValueError: If it is missing, or has no `rank` axes with something in them.
    """
    if name not in state:
        raise ValueError(f"This is no {kind}: {name} is missing.")
    found = state[name].shape
    if len(found) != rank or 0 in found:
        raise ValueError(f"This is no {kind}: {name} has shape {found}, expected {rank} axes.")
    return found


def count_layers(state: Mapping[str, np.ndarray], name: str) -> int:
    """Returns how many layers there are, from 0 on; `{}` in the name stands for the number."""
    return next(i for i in itertools.count() if name.format(i) not in state)


def config_from_state(state: Mapping[str, np.ndarray]) -> ClipConfig:
    """Reads the sizes of a CLIP from its published tensors; heads are 64 channels wide.

    Raises:
      ValueError: If a tensor that tells a size is missing.
    """

    def shape(name: str, rank: int) -> tuple[int, ...]:
        return shape_of(state, name, rank, "ConvNeXt CLIP of OpenCLIP")

    stage = "visual.trunk.stages.{}.blocks.{}.gamma"
    widths = tuple(shape(stage.format(s, 0), 1)[0] for s in range(4))
    depths = [count_layers(state, stage.format(s, "{}")) for s in range(4)]
    eps = next((eps for d, w, eps in _TRUNKS.values() if (d, w) == (tuple(depths), widths)), 1e-6)
    context, text_width = shape("positional_embedding", 2)
    return ClipConfig(
        depths=tuple(depths),
        widths=widths,
        norm_eps=eps,
        embed_dim=shape("text_projection", 2)[1],
        head="mlp" if "visual.head.mlp.fc1.weight" in state else "linear",
        text_width=text_width,
        text_heads=max(1, text_width // 64),
        text_layers=count_layers(state, "transformer.resblocks.{}.ln_1.weight"),
        vocab_size=shape("token_embedding.weight", 2)[0],
        context_length=context,
    )
