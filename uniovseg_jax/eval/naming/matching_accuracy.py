"""How well true masks are named by frozen CLIP vectors, and what each input size costs (table 4b).

Only the part `clip` of a model takes part: this is the first number of the paper that converted
weights can be checked by.
"""

import copy
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jaxtyping import Array, Bool, Float, Int, UInt8
from scipy.special import softmax

from uniovseg_jax.device_copies import DeviceCopies
from uniovseg_jax.eval.naming.true_regions import TrueRegions
from uniovseg_jax.models.uniovseg import TrunkFeatures, UniOVSeg
from uniovseg_jax.packed_masks import PackedMasks
from uniovseg_jax.proposals import letterbox, letterbox_labels
from uniovseg_jax.text_encoder import class_cosines
from uniovseg_jax.weights.store import Pretrained

AVERAGES = ("cosines", "probs")
# Input sides that go together.
SizeSets = Sequence[Sequence[int]]

_STRIDE = 32
# Calls that are timed for each size.
_TIMED = 5


def check_naming(sizes: Collection[int], average: str) -> None:
    """Raises a ValueError if a size or the average is none that a `RegionNamer` takes."""
    wrong = [size for size in sizes if size < _STRIDE or size % _STRIDE]
    if wrong or not sizes:
        named = f"got {wrong[0]}" if wrong else "there is none"
        raise ValueError(f"Input sizes must be multiples of {_STRIDE}; {named}.")
    if average not in AVERAGES:
        raise ValueError(f"Unknown average {average!r}; expected one of {', '.join(AVERAGES)}.")


class RegionNamer:
    """Names masks that are given; compiled once per input size.

    Args:
      pretrained: A model with the part `clip`; others take no part.
      names: Unit vectors of names.
      name_to_class: Class of every name, 0..t-1, ascending and without gaps.
      sizes: Input sides.
      average: What is averaged over sizes: cosines of regions and names, or the probabilities of
        classes that CLIP's own temperature makes of them.
      chunk: Masks that are pooled at a time, which bounds the memory.

    Raises:
      ValueError: If a size is no positive multiple of 32.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        names: Float[np.ndarray, "m e"],
        name_to_class: Int[np.ndarray, " m"],
        sizes: Iterable[int],
        average: str = "cosines",
        chunk: int = 16,
    ):
        self.sizes = tuple(sorted(set(sizes)))
        check_naming(self.sizes, average)
        self._names, self._name_to_class, self._chunk = names, name_to_class, chunk
        self._average = average
        self._variables = {"params": {"clip": pretrained.variables["params"]["clip"]}}
        self._copies = DeviceCopies(self._variables)
        model = pretrained.model

        def embed(
            module: UniOVSeg, features: TrunkFeatures, masks: Bool[Array, "n s s"]
        ) -> Float[Array, "n e"]:
            logits = jnp.where(masks, 1.0, -1.0)[None]
            return module.embed_regions(features, logits, adapt=False)[0]

        def apply(method: Any) -> Any:
            return jax.jit(
                lambda variables, *inputs: model.apply(variables, *inputs, method=method)
            )

        self._trunk, self._embed = apply(UniOVSeg.encode_trunk), apply(embed)
        scale = model.apply(self._variables, method=UniOVSeg.logit_scale)
        self._scale = float(np.asarray(scale))

    def on_device(self, device: Any) -> "RegionNamer":
        """Returns the same on a device; all of one device share its copy of the weights."""
        other = copy.copy(self)
        other._variables = self._copies(device)
        return other

    def embed(
        self, image: UInt8[np.ndarray, "h w 3"], masks: PackedMasks, size: int
    ) -> Float[np.ndarray, "n e"]:
        """Returns unit vectors of masks of the image, letterboxed to one input size."""
        boxed, content_wh = letterbox(image, size)
        features = self._trunk(self._variables, boxed[None])
        found = []
        for start in range(0, len(masks), self._chunk):
            count = min(self._chunk, len(masks) - start)
            # The last chunk is filled up with empty masks, so that one shape is compiled.
            chunk = np.zeros((self._chunk, size, size), bool)
            for row in range(count):
                chunk[row] = letterbox_labels(masks.mask(start + row), content_wh, size)
            found.append(np.asarray(self._embed(self._variables, features, chunk))[:count])
        return np.concatenate(found) if found else np.zeros((0, self._names.shape[1]), np.float32)

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], masks: PackedMasks, size_sets: SizeSets
    ) -> list[Int[np.ndarray, " n"]]:
        """Returns for each set of sizes the class of every mask."""
        vectors = {
            size: self.embed(image, masks, size)
            for size in sorted({size for sizes in size_sets for size in sizes})
        }
        return [
            self._classes([vectors[size] for size in sizes]).argmax(axis=1) for sizes in size_sets
        ]

    def seconds(self, progress: bool = False) -> dict[int, float]:
        """Times one image with a chunk of masks by size: trunk and pooling, no reading.

        Args:
          progress: Whether to show a bar.

        Returns:
          The median of a few calls while nothing else is asked of the device.
        """
        sizes = tqdm.tqdm(self.sizes, "times", unit="size", disable=not progress)
        return {size: self._time(size) for size in sizes}

    def _classes(self, vectors: Sequence[Float[np.ndarray, "n e"]]) -> Float[np.ndarray, "n t"]:
        """Returns scores of classes from vectors at one or more sizes."""
        if self._average == "cosines":
            # The mean of the cosines with a name is the cosine with the mean vector, but for a
            # factor that is the same for all names.
            mean = np.mean(vectors, axis=0)
            return class_cosines(mean, self._names, self._name_to_class)
        cosines = [class_cosines(rows, self._names, self._name_to_class) for rows in vectors]
        return np.mean([softmax(self._scale * rows, axis=1) for rows in cosines], axis=0)

    def _time(self, size: int) -> float:
        image = jax.device_put(np.full((1, size, size, 3), 128, np.uint8))
        masks = jax.device_put(np.ones((self._chunk, size, size), bool))
        seconds = []
        for _ in range(_TIMED + 1):
            start = time.perf_counter()
            features = self._trunk(self._variables, image)
            jax.block_until_ready(self._embed(self._variables, features, masks))
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds[1:]))  # The first one may have compiled.


def measure_accuracy(
    namer: RegionNamer, images: Iterable[TrueRegions], size_sets: SizeSets
) -> list[dict[str, Any]]:
    """Names the true masks of all images.

    Returns:
      Per set `sizes`, `top1` (percent of the masks, NaN without masks) and `seconds` per image.

    Source: arXiv 2402.08960, table 4b.
    """
    right = np.zeros(len(size_sets), np.int64)
    count = 0
    for image, masks, labels in images:
        predicted = namer(image, masks, size_sets)
        right += [np.count_nonzero(classes == labels) for classes in predicted]
        count += len(labels)
    seconds = namer.seconds()
    return [
        {
            "sizes": list(sizes),
            "top1": 100.0 * float(hits) / count if count else float("nan"),
            "seconds": sum(seconds[size] for size in sizes),
        }
        for sizes, hits in zip(size_sets, right, strict=True)
    ]
