"""Compares with stored outputs of the authors: `state/*` converted, `in/*` fed, `out/*` checked."""

import os
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert.uniovseg import convert_state
from uniovseg_jax.models.mask_decoder import compute_masks
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg

# Float32 on both sides.
BOUND = 1e-4
_LARGEST = 2**30
_INPUTS = {
    **{f"in/res{level}": 4 for level in (2, 3, 4, 5)},
    "in/points_xyxy": 3,
    "in/boxes_xyxy": 3,
}
_LEVELS = ("res2", "res3", "res4", "res5")


def read_fixture(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the arrays of a fixture.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is no npz file of plain arrays with `state/*`, `in/*` and `out/*`.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a fixture (.npz).")
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _LARGEST:
            raise ValueError(f"its arrays would take {size} bytes, expected up to {_LARGEST}.")
        with np.load(file, allow_pickle=False) as opened:
            arrays = dict(opened)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is no npz file of plain arrays: {error}") from error
    for kind in ("state/", "in/", "out/"):
        if not any(name.startswith(kind) for name in arrays):
            raise ValueError(f"{file} holds nothing under {kind}; expected state/*, in/*, out/*.")
    for name, rank in _INPUTS.items():
        if name not in arrays or arrays[name].ndim != rank:
            raise ValueError(f"{file}: expected an array {name} of {rank} axes.")
    return arrays


def run_fixture(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of the converted model for the stored inputs, by stored name.

    Raises:
      ValueError: If the tensors are no Uni-OVSeg decoder.
    """
    state = {k.removeprefix("state/"): v for k, v in arrays.items() if k.startswith("state/")}
    converted = convert_state(state)
    trunk = {
        name: jnp.asarray(arrays[f"in/{name}"].transpose(0, 2, 3, 1), jnp.float32)
        for name in _LEVELS
    }
    model = UniOVSeg(converted.config)
    run = jax.jit(lambda variables, *inputs: model.apply(variables, *inputs, method=_run))
    prompts = arrays["in/points_xyxy"], arrays["in/boxes_xyxy"]
    return jax.device_get(run(converted.variables, trunk, *prompts))


def compare_fixture(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest absolute error of every stored output.

    Raises:
      ValueError: As `run_fixture`, or if the stored outputs are others than the model's.
    """
    found = run_fixture(arrays)
    expected = {k.removeprefix("out/"): v for k, v in arrays.items() if k.startswith("out/")}
    if set(found) != set(expected):
        raise ValueError(f"Outputs in one place only: {sorted(set(found) ^ set(expected))}.")
    errors = {}
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise ValueError(f"{name} has shape {found[name].shape}, the fixture {value.shape}.")
        errors[name] = float(np.abs(found[name] - value).max())
    return errors


def _run(model: UniOVSeg, trunk: Any, points: Any, boxes: Any) -> dict[str, Any]:
    features = ImageFeatures(trunk, model.decode_pixels(trunk))
    memory = model.prepare_masks(features)
    outputs = {"mask_features": features.pixel.mask_features.transpose(0, 3, 1, 2)}
    for level, x in enumerate(features.pixel.multi_scale_features):
        outputs[f"multi_scale_{level}"] = x.transpose(0, 3, 1, 2)
    decoded = {
        "points": model.decode_masks(features, memory, points, "point"),
        "boxes": model.decode_masks(features, memory, boxes, "box"),
    }
    for name, output in decoded.items():
        last = len(output.mask_embeds) - 1
        for i, embeds in enumerate(output.mask_embeds):
            layer = "" if i == last else f"aux{i}/"
            outputs[f"{name}/{layer}pred_masks"] = compute_masks(embeds, memory.pixel_embeds)
            outputs[f"{name}/{layer}pred_ious"] = output.pred_ious[i]
    return outputs
