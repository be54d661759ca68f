"""Reads published checkpoints safely, and writes ours back as such.

This is the only place that opens pickles: with a torch whose `weights_only` loading has no known
hole, so that nothing in the file is executed. safetensors files are read without torch.
"""

import os
import pathlib
import pickle
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401 (makes bfloat16 known to NumPy)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from uniovseg_jax.files import one_line, write_whole

# `weights_only=True` was bypassed before: CVE-2025-32434 (2.6) and CVE-2026-24747 (2.10).
MIN_TORCH = (2, 10)
# Where trainers put the state dict inside their file.
_NESTS = ("model", "state_dict")
# What distributed training puts before every name.
_WRAPPER = "module."
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the floating-point tensors of a checkpoint file as float32.

    Args:
      path: A `.safetensors` file, or a file of `torch.save` under any other name.

    Returns:
      Tensors by name, without the prefix that distributed training adds.

    Raises:
      FileNotFoundError: If there is no such file.
      ImportError: If a pickle is to be read and torch is missing or too old.
      ValueError: If the file cannot be read safely, or holds anything but finite numbers.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a checkpoint.")
    with file.open("rb") as opened:
        start = opened.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{file} is a pointer of Git LFS; expected the file that it stands for.")
    # By content too: hubs give safetensors files other names.
    if file.suffix == ".safetensors" or start[8:10] == b'{"':
        state = _read_safetensors(file)
    else:
        state = _read_pickle(file)
    if not state:
        raise ValueError(f"{file} holds no floating-point tensor; expected a state dict.")
    if all(name.startswith(_WRAPPER) for name in state):
        state = {name.removeprefix(_WRAPPER): tensor for name, tensor in state.items()}
    broken = [name for name, tensor in state.items() if not np.isfinite(tensor).all()]
    if broken:
        raise ValueError(
            f"{file}: {len(broken)} of {len(state)} tensors hold values that are not finite, the "
            f"first one {broken[0]}."
        )
    return state


def write_checkpoint(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict: safetensors by that suffix, otherwise a file of `torch.save`.

    Raises:
      ImportError: If torch is needed and missing.
      ValueError: If the file exists already.
    """
    file = pathlib.Path(path)
    if file.exists():
        raise ValueError(f"{file} exists; it is left as it is.")
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(tensor, order="C") for name, tensor in state.items()}
    if file.suffix == ".safetensors":
        write_whole(file, lambda path: save_file(arrays, str(path)))
    else:
        torch = _import_torch(file)
        tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
        write_whole(file, lambda path: torch.save(tensors, path))


def _read_safetensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(str(file), framework="np") as opened:
            dtypes = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
            odd = [
                name for name, dtype in dtypes.items() if dtype[0] in "FC" and dtype not in _FLOATS
            ]
            if odd:
                raise ValueError(f"{odd[0]} is {dtypes[odd[0]]}; expected 16, 32 or 64 bit floats")
            return {
                name: np.asarray(opened.get_tensor(name)).astype(np.float32, copy=False)
                for name, dtype in dtypes.items()
                if dtype in _FLOATS
            }
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{file} is no readable safetensors file: {one_line(error)}") from error


def _read_pickle(file: pathlib.Path) -> dict[str, np.ndarray]:
    torch = _import_torch(file)
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} cannot be loaded safely, and nothing of it was run: {_reason(error)}."
        ) from error
    except Exception as error:  # Whatever a damaged file makes torch raise.
        raise ValueError(
            f"{file} is damaged or no file of torch.save: {type(error).__name__}."
        ) from error
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ValueError(
            f"{file} holds a {type(content).__name__}; expected a state dict, or a dict with one "
            f"under {' or '.join(_NESTS)}."
        )
    tensors = {k: v.detach() for k, v in content.items() if isinstance(v, torch.Tensor)}
    _check_tensors(torch, tensors, file)
    return {
        name: tensor.to(torch.float32).numpy()
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }


def _check_tensors(torch: Any, tensors: Mapping[str, Any], file: pathlib.Path) -> None:
    """Refuses what is no plain array, and what would grow far beyond the file."""
    floats = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            kind = f"{tensor.layout} on {tensor.device}"
            raise ValueError(f"{file}: {name} is a tensor of {kind}; expected a plain array.")
        if tensor.dtype not in floats and (tensor.is_floating_point() or tensor.is_complex()):
            raise ValueError(f"{file}: {name} is {tensor.dtype}; expected 16, 32 or 64 bit floats.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(
                f"{file}: {name} claims {tensor.numel()} numbers, but the file holds fewer."
            )


def _import_torch(file: pathlib.Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{file} is a PyTorch file and torch is not installed; install the extra: "
            "pip install 'uniovseg_jax[convert]'."
        ) from error
    found = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if found < MIN_TORCH:
        raise ImportError(
            f"{file} is a PyTorch file; torch {torch.__version__} is known to run code hidden in "
            f"such files, expected {'.'.join(map(str, MIN_TORCH))} or newer."
        )
    return torch


def _is_zip(file: pathlib.Path) -> bool:
    """Tells the current format of `torch.save`, which can be mapped, from the one before 1.6."""
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def _reason(error: BaseException) -> str:
    """Returns what the file asks for; torch's own advice, to load it unsafely, is left out."""
    found = re.search(r"(?:GLOBAL|global|class|function) ([\w.]+\.[\w.]+)", str(error))
    return f"it asks for {found[1]}" if found else "it holds more than tensors, or is damaged"
