"""What superpixels can do where a model is asked for masks: the best of a fixed pool of them.

Needs scikit-image, which the extra `eval` brings.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8

from uniovseg_jax.eval.metrics.promptable import BestMasks, TrueMasks
from uniovseg_jax.packed_masks import PackedMasks

_ROUNDS = 9
# Pixels over Felzenszwalb's scale in the coarsest round: a scale of 6400 at 480 x 360.
_PIXELS_PER_SCALE = 27
_SIGMAS = (0.8, 0.5)
# Pixels over Felzenszwalb's smallest segment: half of a region of 0.1 % of the image.
_PIXELS_PER_SEGMENT = 2000
_SLIC_SEGMENTS, _SLIC_COMPACTNESS = 6, 20.0


def superpixel_pool(
    image: UInt8[np.ndarray, "h w 3"], num_segments: int
) -> list[Int[np.ndarray, "h w"]]:
    """Segments an image at several scales until there are `num_segments` segments in all.

    The recipe is fixed. Round r = 0, 1, ..., 8 goes from coarse to fine and makes three label maps:
    SLIC with 6 * 2^r segments asked for and compactness 20, and Felzenszwalb with sigma 0.8 and
    with sigma 0.5, both with scale pixels / 27 / 2^r and segments of at least pixels / 2000. The
    map with which the number is reached is the last one, so a pool has somewhat more segments than
    asked for; an image without structure can have fewer. On twelve photographs of CamVid's train
    drives (regions of at least 0.1 %) the best of its 1744 segments had a mean IoU of 0.566, that
    of 1445 of Felzenszwalb's alone 0.552 and that of 1398 of SLIC's alone 0.427.

    Args:
      image: RGB.
      num_segments: Segments of all label maps together, such as the number of masks that a model
        gives for a grid of points.

    Returns:
      Label maps, each of segments 0, 1, ... that cover the image.

    Raises:
      ImportError: If scikit-image is not installed.

    Source: Achanta et al. 2012 (SLIC); Felzenszwalb and Huttenlocher 2004.
    """
    pool: list[Int[np.ndarray, "h w"]] = []
    total = 0
    for label_map in _label_maps(image):
        pool.append(label_map)
        total += int(label_map.max()) + 1
        if total >= num_segments:
            break
    return pool


def _label_maps(image: UInt8[np.ndarray, "h w 3"]) -> Iterator[Int[np.ndarray, "h w"]]:
    try:
        from skimage.segmentation import felzenszwalb, slic
    except ImportError as error:
        raise ImportError(
            "Superpixels need scikit-image: install it with pip install 'uniovseg_jax[eval]'."
        ) from error
    pixels = image.shape[0] * image.shape[1]
    for number in range(_ROUNDS):
        yield slic(
            image,
            n_segments=_SLIC_SEGMENTS * 2**number,
            compactness=_SLIC_COMPACTNESS,
            start_label=0,
        )
        for sigma in _SIGMAS:
            yield felzenszwalb(
                image,
                scale=pixels / _PIXELS_PER_SCALE / 2**number,
                sigma=sigma,
                min_size=pixels // _PIXELS_PER_SEGMENT,
            )


def find_best_segments(truth: TrueMasks, pool: list[Int[np.ndarray, "h w"]]) -> BestMasks:
    """Returns for every true mask the segment of the pool that fits it best.

    This is what `grid_any` is for a model.
    """
    best = BestMasks(truth)
    for label_map in pool:
        iou = _segment_iou(truth, label_map)
        chosen = [label_map == label for label in iou.argmax(axis=1)]
        best.offer(iou.max(axis=1), PackedMasks.from_masks(chosen, truth.masks.hw).words)
    return best


def _segment_iou(truth: TrueMasks, label_map: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "n m"]:
    """Returns the overlap of every true mask with every segment of a label map."""
    areas = np.bincount(label_map.ravel())
    inter = np.zeros((len(truth), len(areas)), np.int64)
    for row in range(len(truth)):
        inter[row] = np.bincount(label_map[truth.masks.mask(row)], minlength=len(areas))
    return inter / (truth.masks.areas[:, None] + areas - inter)
