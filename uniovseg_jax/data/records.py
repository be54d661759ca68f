"""One training record, an encoded image with its masks, as bytes with a checksum.

In memory a record is a dict:

  id: str.
  image: bytes, a JPEG or PNG file; upright, so that its rows are the rows of the masks.
  height, width: int, in pixels.
  masks: list of {"size": [height, width], "counts": bytes (COCO compressed run lengths)}, where
    known with "predicted_iou" and "stability", both floats.

As bytes it is a CRC-32 and a msgpack map. The size of the masks is that of the image and is not
repeated; the scores are one list each.
"""

import sys
from typing import Any

from uniovseg_jax import masks as masks_lib
from uniovseg_jax.data.array_record_file import seal, unseal

MaskRecord = dict[str, Any]

# Of one image; the largest of SA-1B have several hundred.
MAX_MASKS = 10_000
SCORES = ("predicted_iou", "stability")
_TYPES = {"id": str, "image": bytes, "height": int, "width": int, "counts": list}


def check_masks(masks: list[Any], height: int, width: int) -> tuple[list[dict[str, Any]], int]:
    """Brings masks from outside into the form of a record.

    Every run is read by our own checked decoder; text that passes it stays as it is.

    Args:
      masks: Run-length masks of any COCO form, with or without scores.
      height: Of the image, in pixels.
      width: Of the image, in pixels.

    Returns:
      The masks, and how many were left out because they have no pixel.

    Raises:
      ValueError: If a mask is malformed, of another size than the image, or has a score that is no
        finite number (says which), or there are more than `MAX_MASKS`.
    """
    if len(masks) > MAX_MASKS:
        raise ValueError(f"It has {len(masks)} masks, more than {MAX_MASKS}.")
    checked, num_empty = [], 0
    for index, mask in enumerate(masks):
        try:
            area = masks_lib.rle_area(mask)
            if list(mask["size"]) != [height, width]:
                raise ValueError(
                    f"Its size is {list(mask['size'])}, that of the image {[height, width]}."
                )
            scores = {name: _checked_score(mask[name], name) for name in SCORES if name in mask}
        except ValueError as error:
            raise ValueError(f"Mask {index}: {error}") from error
        if not area:
            num_empty += 1
            continue
        counts = mask["counts"]
        if isinstance(counts, (list, tuple)):
            counts = masks_lib.rle_encode(masks_lib.rle_decode(mask))["counts"]
        if isinstance(counts, str):
            counts = counts.encode("ascii")
        checked.append({"size": [height, width], "counts": counts, **scores})
    return checked, num_empty


def encode_record(record: MaskRecord) -> bytes:
    """Returns the bytes of a record whose masks `check_masks` has seen.

    Raises:
      ValueError: If only some of the masks have a score that others have.
    """
    masks = record["masks"]
    document = {name: record[name] for name in ("id", "image", "height", "width")}
    document["counts"] = [mask["counts"] for mask in masks]
    for name in SCORES:
        scores = [mask[name] for mask in masks if name in mask]
        if scores and len(scores) != len(masks):
            raise ValueError(f"{len(scores)} of {len(masks)} masks have a {name}: expected all.")
        if scores:
            document[name] = scores
    return seal(document)


def decode_record(encoded: bytes) -> MaskRecord:
    """Reads back what `encode_record` wrote.

    Raises:
      ValueError: If the checksum does not fit or the content is no record.
    """
    document = unseal(encoded, _TYPES, "image-mask record")
    size = [document["height"], document["width"]]
    masks = [{"size": list(size), "counts": counts} for counts in document.pop("counts")]
    for name in SCORES:
        if name in document:
            for mask, score in zip(masks, document.pop(name), strict=True):
                mask[name] = score
    return {**document, "masks": masks}


def _checked_score(score: Any, name: str) -> float:
    is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
    if not is_number or not abs(score) <= sys.float_info.max:
        raise ValueError(f"Its {name} is {str(score)[:40]!r}, expected a finite number.")
    return float(score)
