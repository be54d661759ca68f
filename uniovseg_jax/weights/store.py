"""Model directories: `config.json`, `params.safetensors` and, with a text tower, `tokenizer.json`.

A directory holds one or more parts of the model (`clip`, `masks`, `adapter`) and enough to rebuild
it. Reading checks every tensor against the shapes that the configuration implies, because neither
safetensors nor Flax would notice a tensor that is missing, misshapen or not finite.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from uniovseg_jax.files import one_line
from uniovseg_jax.models import presets, tokenizer, uniovseg

FORMAT = 1
PARTS: tuple[uniovseg.Part, ...] = ("clip", "masks", "adapter")
CONFIG_FILE = "config.json"
PARAMS_FILE = "params.safetensors"
TOKENIZER_FILE = "tokenizer.json"

# What may lie in a model directory; a report of its conversion goes along.
_MODEL_FILES = {CONFIG_FILE, PARAMS_FILE, TOKENIZER_FILE, "parity.json", "parity.md"}

# Names of safetensors' floating-point types that may be stored.
_STORED_DTYPES = ("F32", "F16", "BF16")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model with its weights, as read from a model directory.

    Attributes:
      model: The module in float32.
      config: What the module was built from.
      variables: Collections `params` and `fixed`, float32 arrays of JAX.
      tokenizer: The text tokenizer; None where the part `clip` is absent.
      parts: Which of `clip`, `masks` and `adapter` the variables hold.
      metadata: What the writer wished to say (command, seed, versions, ...).
    """

    model: uniovseg.UniOVSeg
    config: presets.UniOVSegConfig
    variables: Any
    tokenizer: tokenizer.Tokenizer | None
    parts: tuple[uniovseg.Part, ...]
    metadata: dict[str, Any]


def flatten_variables(variables: Any) -> dict[str, Any]:
    """Returns the leaves under their paths, such as `params/clip/visual/stem/kernel`, sorted."""
    return dict(sorted(traverse_util.flatten_dict(variables, sep="/").items()))


def params_sha256(variables: Any) -> str:
    """Returns the digest of every parameter, fixed matrices included.

    Hashed are, in sorted order of the paths: path, dtype, shape and the bytes in C order.
    """
    digest = hashlib.sha256()
    for path, leaf in flatten_variables(variables).items():
        array = np.asarray(leaf, order="C")
        digest.update(f"{path}\n{array.dtype.name}\n{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_pretrained(
    directory: str | os.PathLike[str],
    config: presets.UniOVSegConfig,
    variables: Any,
    text_tokenizer: tokenizer.Tokenizer | None,
    parts: Iterable[str],
    dtype: Literal["float32", "float16"] = "float32",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model directory in one move: it is there whole or not at all.

    Everything is written to a sibling directory that then takes the name. An earlier model of the
    same name is set aside until then.

    Args:
      directory: Where to; its parent is made when needed.
      config: The model's configuration.
      variables: Collections `params` and `fixed`, with exactly the parts named.
      text_tokenizer: Goes along with the part `clip`, and only with it.
      parts: Which of `clip`, `masks` and `adapter` the variables hold.
      dtype: How parameters are stored; fixed matrices stay float32, because an error in a
        frequency grows with the distance from the image's centre.
      metadata: Anything JSON can say.

    Raises:
      ValueError: If variables and configuration disagree, a value is not finite (or not within
        float16), or the directory exists and is no model directory.
    """
    target = pathlib.Path(directory).absolute()
    parts = _check_parts(parts, config, str(target))
    if ("clip" in parts) != (text_tokenizer is not None):
        raise ValueError(
            f"{target}: a tokenizer goes along with the part clip, and only with it; "
            f"the parts are {', '.join(parts)}."
        )
    if text_tokenizer is not None:
        _check_tokenizer(text_tokenizer, config, str(target))
    check_replaceable(target)
    tensors: dict[str, np.ndarray] = {}
    complaints: list[str] = []
    for path, leaf in flatten_variables(variables).items():
        stored = np.dtype(dtype) if path.startswith("params/") else np.dtype("float32")
        with np.errstate(over="ignore"):  # Reported below, by name.
            tensors[path] = np.asarray(leaf, order="C").astype(stored, order="C", copy=False)
        if not np.isfinite(tensors[path]).all():
            complaints.append(f"{target}: {path} is not finite in {stored.name}.")
    shapes = {path: tensor.shape for path, tensor in tensors.items()}
    complaints = _compare(shapes, _expected_shapes(config, parts, str(target)), target) + complaints
    if complaints:
        raise ValueError("\n".join(complaints))

    document = {
        "format": FORMAT,
        "parts": list(parts),
        "model": presets.config_to_dict(config),
        "metadata": dict(metadata or {}),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir()
    try:
        (temporary / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n")
        save_file(tensors, str(temporary / PARAMS_FILE))
        # safetensors writes for the owner alone; everyone may read a model as they may its config.
        (temporary / PARAMS_FILE).chmod((temporary / CONFIG_FILE).stat().st_mode & 0o777)
        if text_tokenizer is not None:
            (temporary / TOKENIZER_FILE).write_text(text_tokenizer.to_json(), encoding="utf-8")
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        _move_into_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_replaceable(directory: str | os.PathLike[str]) -> None:
    """Makes sure that a model can be written there without the loss of anything else.

    Raises:
      ValueError: If there is something that is neither an empty directory nor an earlier model with
        nothing but its own files.
    """
    target = pathlib.Path(directory).absolute()
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        _read_config(target)
        ours = {entry.name for entry in target.iterdir()} <= _MODEL_FILES
    except (ValueError, OSError):
        ours = False
    if not ours:
        raise ValueError(
            f"{target} exists and holds something else than a model directory; it is left as it is."
        )


def read_config(
    directory: str | os.PathLike[str],
) -> tuple[presets.UniOVSegConfig, tuple[uniovseg.Part, ...]]:
    """Reads what a model directory says of itself, and none of its weights.

    Returns:
      The model's configuration, and which parts of it are there.

    Raises:
      FileNotFoundError: If the directory or one of its files is missing.
      ValueError: If its `config.json` is not as it has to be.
    """
    folder = pathlib.Path(directory)
    config, parts, _ = _open_directory(folder)
    _require(folder, PARAMS_FILE)
    return config, parts


def load_pretrained(directory: str | os.PathLike[str]) -> Pretrained:
    """Reads a model directory and checks it against its own configuration.

    Raises:
      FileNotFoundError: If the directory or one of its files is missing.
      ValueError: If a file cannot be read, or a tensor is missing, extra, wrongly shaped, not
        floating-point or not finite; every complaint is one sentence on a line of its own.
    """
    folder = pathlib.Path(directory)
    config, parts, metadata = _open_directory(folder)
    expected = _expected_shapes(config, parts, str(folder / CONFIG_FILE))
    variables = _read_tensors(folder / PARAMS_FILE, expected)

    text_tokenizer = None
    if "clip" in parts:
        path = _require(folder, TOKENIZER_FILE)
        text_tokenizer = tokenizer.Tokenizer.from_file(path)
        _check_tokenizer(text_tokenizer, config, str(path))
    return Pretrained(uniovseg.UniOVSeg(config), config, variables, text_tokenizer, parts, metadata)


def _open_directory(
    folder: pathlib.Path,
) -> tuple[presets.UniOVSegConfig, tuple[uniovseg.Part, ...], dict[str, Any]]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no model directory: expected a folder with {CONFIG_FILE}, "
            f"{PARAMS_FILE} and {TOKENIZER_FILE}."
        )
    return _read_config(folder)


def _require(folder: pathlib.Path, name: str) -> pathlib.Path:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a model directory holds {name}.")
    return path


def _check_parts(
    parts: Iterable[str], config: presets.UniOVSegConfig, where: str
) -> tuple[uniovseg.Part, ...]:
    """Returns the parts in their usual order."""
    given = list(parts)
    if not given or len(set(given)) != len(given) or not set(given) <= set(PARTS):
        raise ValueError(f"{where}: parts are {given}; expected some of {', '.join(PARTS)}.")
    if "adapter" in given and config.adapter is None:
        raise ValueError(f"{where}: the part adapter is named, but the model has no adapter.")
    return tuple(part for part in PARTS if part in given)


def _check_tokenizer(
    text_tokenizer: tokenizer.Tokenizer, config: presets.UniOVSegConfig, where: str
) -> None:
    """The end token is the largest id, and other ids must have a row in the embedding."""
    found = (text_tokenizer.vocab_size, text_tokenizer.context_length)
    expected = (config.clip.vocab_size, config.clip.context_length)
    if found != expected:
        raise ValueError(
            f"{where}: the tokenizer has {found[0]} ids and {found[1]} positions, but the text "
            f"tower {expected[0]} and {expected[1]}."
        )


def _read_config(
    folder: pathlib.Path,
) -> tuple[presets.UniOVSegConfig, tuple[uniovseg.Part, ...], dict[str, Any]]:
    path = _require(folder, CONFIG_FILE)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # Also what undecodable bytes raise.
        raise ValueError(f"{path} is no valid JSON: {one_line(error)}") from error
    keys = {"format", "parts", "model", "metadata"}
    if not isinstance(document, dict) or set(document) != keys:
        raise ValueError(f"{path}: expected an object with exactly {', '.join(sorted(keys))}.")
    if document["format"] != FORMAT:
        raise ValueError(f"{path}: format {document['format']!r}; this version reads {FORMAT}.")
    parts, metadata = document["parts"], document["metadata"]
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{path}: parts: expected a list of names.")
    for key in ("model", "metadata"):
        if not isinstance(document[key], dict):
            raise ValueError(f"{path}: {key}: expected an object.")
    try:
        config = presets.config_from_dict(document["model"])
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error
    return config, _check_parts(parts, config, str(path)), metadata


def _expected_shapes(
    config: presets.UniOVSegConfig, parts: tuple[uniovseg.Part, ...], where: str
) -> dict[str, tuple[int, ...]]:
    try:
        abstract = uniovseg.abstract_variables(config, parts)
    except Exception as error:  # Whatever a nonsensical size makes Flax or JAX raise.
        raise ValueError(
            f"{where}: no model can be built of these sizes: {one_line(error)}"
        ) from error
    return {path: tuple(leaf.shape) for path, leaf in flatten_variables(abstract).items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _compare(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    where: pathlib.Path,
) -> list[str]:
    """Returns one sentence per kind of disagreement about names, and one per wrong shape."""
    complaints = []
    if missing := sorted(set(expected) - set(found)):
        complaints.append(
            f"{where}: missing, though the configuration asks for: {_listed(missing)}."
        )
    if extra := sorted(set(found) - set(expected)):
        complaints.append(f"{where}: not a tensor of this configuration: {_listed(extra)}.")
    for name in sorted(set(found) & set(expected)):
        if tuple(found[name]) != tuple(expected[name]):
            complaints.append(
                f"{where}: {name} has shape {tuple(found[name])}, expected {expected[name]}."
            )
    return complaints


def _read_tensors(path: pathlib.Path, expected: Mapping[str, tuple[int, ...]]) -> Any:
    """Reads tensor by tensor, so that the file is never in memory twice."""
    _require(path.parent, path.name)
    try:
        with safe_open(str(path), framework="np") as file:
            names = list(file.keys())
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: tuple(slices[name].get_shape()) for name in names}
            complaints = _compare(shapes, expected, path)
            for name in names:
                stored = slices[name].get_dtype()
                if name in expected and stored not in _STORED_DTYPES:
                    complaints.append(
                        f"{path}: {name} is stored as {stored}, expected one of "
                        f"{', '.join(_STORED_DTYPES)}."
                    )
            if complaints:
                raise ValueError("\n".join(complaints))
            leaves = {}
            for name in sorted(names):
                tensor = file.get_tensor(name)
                if not np.isfinite(tensor).all():
                    complaints.append(f"{path}: {name} holds values that are not finite.")
                leaves[name] = jnp.asarray(tensor, dtype=jnp.float32)
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {one_line(error)}") from error
    if complaints:
        raise ValueError("\n".join(complaints))
    return {"params": {}, "fixed": {}} | traverse_util.unflatten_dict(leaves, sep="/")


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_into_place(temporary: pathlib.Path, target: pathlib.Path) -> None:
    """Gives the finished directory its name; what had the name before is removed last."""
    if not target.exists():
        os.rename(temporary, target)
    else:
        old = temporary.with_suffix(".old")
        os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(old, target)
            raise
        shutil.rmtree(old)
    _sync(target.parent)
