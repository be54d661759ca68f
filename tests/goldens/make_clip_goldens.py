"""Makes `clip_small_mlp.npz` and `clip_small_linear.npz`: random OpenCLIP models and their outputs.

Run:  python tests/goldens/make_clip_goldens.py     (needs the `convert` extra)

Keys: `state/*` published names and layouts, `in/image` NHWC in 0..255, `in/tokens`, and as outputs
`out/res2` to `out/res5` (NHWC) and both towers' embeddings before normalisation. The arrays are
float32 and written from torch in float64, so a difference is never torch's rounding.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from convert.openclip_torch import import_open_clip
from convert.random_weights import randomise  # noqa: E402

SIZES = {"depths": (1, 1, 2, 1), "widths": (6, 8, 12, 16), "embed_dim": 12, "image_size": 64}
TEXT = {"context_length": 12, "vocab_size": 48, "width": 16, "heads": 4, "layers": 2}
MEAN = (122.7709383, 116.7460125, 104.09373615)
STD = (68.5005327, 66.6321579, 70.32316305)


def run(model, image: np.ndarray, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the outputs of both towers in float64."""
    import torch

    model = model.double().eval()
    with torch.no_grad():
        x = torch.tensor((image.astype(np.float64) - MEAN) / STD).permute(0, 3, 1, 2)
        outputs = {
            "image_embedding": model.encode_image(x),
            "text_embedding": model.encode_text(torch.tensor(tokens)),
        }
        x = model.visual.trunk.stem(x)
        for i, stage in enumerate(model.visual.trunk.stages):
            x = stage(x)
            outputs[f"res{i + 2}"] = x.permute(0, 2, 3, 1)
    return {name: value.numpy() for name, value in outputs.items()}


def make_model(open_clip, proj: str):
    """Builds OpenCLIP's CLIP around a small timm ConvNeXt."""
    import timm
    from timm.models import convnext

    name = "convnext_small_golden"
    if not timm.is_model(name):

        def entry(pretrained: bool = False, **kwargs):
            shape = {"depths": SIZES["depths"], "dims": SIZES["widths"]}
            return convnext._create_convnext("convnext_atto", pretrained, **shape, **kwargs)

        entry.__name__ = name
        timm.models.register_model(entry)
    vision = {
        "timm_model_name": name,
        "timm_pool": "",
        "timm_proj": proj,
        "image_size": SIZES["image_size"],
    }
    return open_clip.CLIP(embed_dim=SIZES["embed_dim"], vision_cfg=vision, text_cfg=TEXT)


def make_inputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two images and three texts of different lengths."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2, SIZES["image_size"], SIZES["image_size"], 3), np.uint8)
    tokens = np.zeros((3, TEXT["context_length"]), np.int64)
    for row, length in zip(tokens, (1, 4, 10), strict=True):
        row[: length + 2] = [46, *rng.integers(0, 46, length), 47]
    return image, tokens


def main() -> None:
    """Writes both files."""
    open_clip = import_open_clip()
    for seed, proj in enumerate(("mlp", "linear")):
        model = make_model(open_clip, proj)
        randomise(model, seed)
        image, tokens = make_inputs(seed)
        state = {f"state/{k}": v.numpy() for k, v in model.float().state_dict().items()}
        outputs = {f"out/{k}": v for k, v in run(model, image, tokens).items()}
        arrays = {**state, **outputs, "in/image": image, "in/tokens": tokens.astype(np.int32)}
        arrays = {
            k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in arrays.items()
        }
        path = pathlib.Path(__file__).with_name(f"clip_small_{proj}.npz")
        np.savez_compressed(path, **arrays)
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
