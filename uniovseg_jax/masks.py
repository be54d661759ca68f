"""Binary masks on the host: COCO run lengths, boxes, overlaps and mask suppression.

Everything is numpy. Run lengths are COCO's: column-major, starting with a run of zeros. The
decoder checks its input completely before it builds a mask, because annotation files come from
outside.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt64

# Largest side and area that a run-length mask may claim; with them no sum below leaves 63 bits.
MAX_SIDE = 1 << 16
MAX_AREA = 1 << 28
# Most runs of one mask, so that a hostile one costs no more than 512 MB. No mask of an image of
# SA-1B's size can have more; larger ones only where they are noise.
MAX_RUNS = 1 << 22
# Characters of one COCO run: 7 groups of 5 bits hold any signed 32-bit number.
_MAX_GROUPS = 7
# Runs that are written or read at a time: each takes hundreds of bytes on the way.
_RUNS_PER_BLOCK = 1 << 16
_EPS = 1e-6


def rle_encode(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """Encodes a mask as COCO compressed run lengths.

    Args:
      mask: Boolean mask with at least one pixel.

    Returns:
      `{"size": [h, w], "counts": str}`, ready for JSON.

    Raises:
      ValueError: If the mask is not a non-empty 2-d array or has more than `MAX_RUNS` runs.
    """
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"A mask must be a non-empty 2-d array, got shape {mask.shape}.")
    pixels = mask.astype(bool).ravel(order="F")
    differs = pixels[1:] != pixels[:-1]
    # Counted before their places take 8 bytes each; one run more is that of zeros in front.
    if np.count_nonzero(differs) + 2 > MAX_RUNS:
        raise ValueError(f"A mask must not have more than {MAX_RUNS} runs for RLE; this is noise.")
    changes = np.flatnonzero(differs) + 1
    runs = np.diff(changes, prepend=0, append=pixels.size)
    if pixels[0]:
        runs = np.concatenate([[0], runs])
    return {"size": [int(n) for n in mask.shape], "counts": _runs_to_text(runs)}


def rle_decode(rle: Any) -> Bool[np.ndarray, "h w"]:
    """Decodes COCO run lengths, compressed (text or bytes) or plain (a list of runs).

    Args:
      rle: `{"size": [h, w], "counts": ...}`.

    Returns:
      The mask.

    Raises:
      ValueError: If the entry is malformed or its runs do not fill `h * w` pixels exactly.
    """
    h, w, runs = checked_runs(rle)
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape(w, h).T


def rle_area(rle: Any) -> int:
    """Returns the number of foreground pixels, without building the mask.

    Raises:
      ValueError: As `rle_decode`.
    """
    return int(checked_runs(rle)[2][1::2].sum())


def rle_compress(rle: Any) -> dict[str, Any]:
    """Returns run lengths of any form as those that `rle_encode` writes, without building the mask.

    Raises:
      ValueError: As `rle_decode`.
    """
    h, w, runs = checked_runs(rle)
    if (runs[1:] == 0).any():  # Two runs of one value with nothing between them are one.
        values, runs = np.flatnonzero(runs) % 2, runs[runs > 0]
        starts = np.flatnonzero(np.diff(values, prepend=-1))
        runs = np.add.reduceat(runs, starts)
        if values[0] == 1:
            runs = np.concatenate([[0], runs])
    return {"size": [h, w], "counts": _runs_to_text(runs)}


def _runs_to_text(runs: Int[np.ndarray, " r"]) -> str:
    """Writes runs as COCO text: from the fourth on the difference to the run two before."""
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    blocks = range(0, values.size, _RUNS_PER_BLOCK)
    return "".join(_values_to_text(values[start : start + _RUNS_PER_BLOCK]) for start in blocks)


def _values_to_text(values: Int[np.ndarray, " r"]) -> str:
    shifts = 5 * np.arange(_MAX_GROUPS)
    groups = (values[:, None] >> shifts) & 31
    rest = values[:, None] >> (shifts + 5)
    # A number ends where all that is left only repeats the sign bit of the last group.
    more = np.where(groups & 16, rest != -1, rest != 0)
    used = np.cumsum(~more, axis=1) - ~more == 0
    return ((groups | (more << 5)) + 48)[used].astype(np.uint8).tobytes().decode("ascii")


def _text_to_runs(text: bytes) -> Int[np.ndarray, " r"]:
    """Reads COCO text; values may still be negative or too large.

    Text may be long: as a whole, nothing of more than a byte per character is made of it.
    """
    codes = np.frombuffer(text, np.uint8)
    if codes.size == 0 or codes.min() < 48 or codes.max() > 48 + 63:
        raise ValueError("RLE counts hold characters outside COCO's alphabet or are empty.")
    last = codes < 48 + 32
    if not last[-1]:
        raise ValueError("RLE counts end in the middle of a number.")
    if np.count_nonzero(last) > MAX_RUNS:
        raise ValueError(f"RLE counts hold more than {MAX_RUNS} runs.")
    ends = np.flatnonzero(last)
    # Some numbers at a time, since every character takes 73 bytes on the way.
    blocks, begin = [], 0
    for first in range(0, ends.size, _RUNS_PER_BLOCK):
        own = ends[first : first + _RUNS_PER_BLOCK]
        end = int(own[-1]) + 1
        blocks.append(_read_numbers(codes[begin:end], own - begin))
        begin = end
    values = np.concatenate(blocks)
    # Undo the differences: odd runs chain from run 1, even ones from run 2.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _read_numbers(
    codes: UInt8[np.ndarray, " c"], ends: Int[np.ndarray, " r"]
) -> Int[np.ndarray, " r"]:
    """Reads numbers of COCO's alphabet, given where the last character of each one is."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise ValueError("RLE counts hold a number of more than 32 bits.")
    digits = codes.astype(np.int64) - 48
    position = np.arange(digits.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((digits & 31) << (5 * position), starts)
    return values - np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)


def checked_runs(rle: Any) -> tuple[int, int, Int[np.ndarray, " r"]]:
    """Returns height, width and runs that are known to fill the mask exactly.

    Raises:
      ValueError: As `rle_decode`.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= set(rle):
        raise ValueError('An RLE mask must be an object with "size" and "counts".')
    size, counts = rle["size"], rle["counts"]
    if not (
        isinstance(size, (list, tuple))
        and len(size) == 2
        and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in size)
        and all(1 <= n <= MAX_SIDE for n in size)
        and int(size[0]) * int(size[1]) <= MAX_AREA
    ):
        raise ValueError(
            f"RLE size must be two whole numbers from 1 to {MAX_SIDE} with a product of at most "
            f"{MAX_AREA}, got {str(size)[:80]}."
        )
    h, w = int(size[0]), int(size[1])
    if isinstance(counts, str):
        if not counts.isascii():
            raise ValueError("RLE counts hold characters outside COCO's alphabet or are empty.")
        counts = counts.encode("ascii")
    if isinstance(counts, bytes):
        # A canonical mask alternates at most h * w times; more text than that is refused unread.
        if len(counts) > _MAX_GROUPS * min(h * w + 1, MAX_RUNS):
            raise ValueError(f"RLE counts are too long for {h} x {w} pixels.")
        runs = _text_to_runs(counts)
    elif isinstance(counts, (list, tuple)):
        if len(counts) > MAX_RUNS:
            raise ValueError(f"RLE counts hold more than {MAX_RUNS} runs.")
        if not all(isinstance(n, (int, np.integer)) and 0 <= n <= h * w for n in counts):
            raise ValueError(f"RLE runs must be whole numbers from 0 to {h * w}.")
        runs = np.array(counts, np.int64)
    else:
        raise ValueError(f"RLE counts must be text or a list of runs, got {type(counts).__name__}.")
    if runs.size > h * w + 1 or runs.size == 0 or runs.min() < 0 or runs.max() > h * w:
        raise ValueError(f"RLE runs must be 1 to {h * w + 1} numbers from 0 to {h * w}.")
    if int(runs.sum()) != h * w:
        raise ValueError(f"RLE runs sum to {int(runs.sum())}, expected {h} x {w} = {h * w}.")
    return h, w, runs


def box_from_mask(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "4"]:
    """Returns the tight box (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; zeros when empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if columns.size == 0:
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def mask_iou_matrix(
    a: Bool[np.ndarray, "n h w"], b: Bool[np.ndarray, "m h w"]
) -> Float[np.ndarray, "n m"]:
    """Returns the intersection over union of every pair; 0 where both masks are empty.

    Counts are sums of ones in float32, exact below 2**24 pixels per block of rows.
    """
    inter = np.zeros((len(a), len(b)))
    if inter.size == 0:
        return inter
    rows = max(1, (1 << 24) // (a.shape[2] * max(len(a), len(b))))
    for start in range(0, a.shape[1], rows):
        block_a = a[:, start : start + rows].reshape(len(a), -1).astype(np.float32)
        block_b = b[:, start : start + rows].reshape(len(b), -1).astype(np.float32)
        inter += block_a @ block_b.T
    area_a = np.count_nonzero(a, axis=(1, 2))
    area_b = np.count_nonzero(b, axis=(1, 2))
    return inter / np.maximum(area_a[:, None] + area_b[None, :] - inter, 1)


def mask_nms(
    masks: Bool[np.ndarray, "n h w"],
    scores: Float[np.ndarray, " n"],
    iou_threshold: float,
    inside_threshold: float,
    limit: int | None = None,
) -> Int[np.ndarray, " kept"]:
    """Suppresses masks that repeat a better one or lie inside it.

    Takes the best remaining mask i and removes every remaining j with IoU(i, j) >= iou_threshold
    or |i and j| / |j| >= inside_threshold, both ratios with 1e-6 added above and below; repeats.
    A whole that contains a better part is kept unless their IoU reaches the threshold.

    Args:
      masks: Binary masks.
      scores: Higher is better; equal scores keep their order.
      iou_threshold: Overlap from which j is a repetition.
      inside_threshold: Share of j within i from which j is a part.
      limit: Stop after this many masks; None for all.

    Returns:
      Indices of the kept masks, best first.
    """
    return packed_nms(np.packbits(masks, axis=-1), scores, iou_threshold, inside_threshold, limit)


def packed_nms(
    packed: UInt8[np.ndarray, "n h w8"],
    scores: Float[np.ndarray, " n"],
    iou_threshold: float,
    inside_threshold: float,
    limit: int | None = None,
) -> Int[np.ndarray, " kept"]:
    """`mask_nms` on masks of eight pixels a byte (uint8 "n h w/8", `packbits` along x)."""
    if packed.shape[0] == 0:
        return np.zeros(0, np.int64)
    words = as_words(packed)
    areas = np.bitwise_count(words).sum(axis=(1, 2), dtype=np.int64)
    filled: np.ndarray = np.any(words, axis=2)
    top = np.argmax(filled, axis=1)
    bottom = filled.shape[1] - np.argmax(filled[:, ::-1], axis=1)
    remaining = np.argsort(-scores, kind="stable")
    kept = []
    while remaining.size and (limit is None or len(kept) < limit):
        best, remaining = int(remaining[0]), remaining[1:]
        kept.append(best)
        inter = np.zeros(remaining.size)
        # Only rows of the best mask can meet another one, and only masks that reach those rows.
        meets = np.flatnonzero((top[remaining] < bottom[best]) & (bottom[remaining] > top[best]))
        if areas[best] and meets.size:
            rows = slice(top[best], bottom[best])
            common = words[remaining[meets], rows] & words[best, rows]
            inter[meets] = np.bitwise_count(common).sum(axis=(1, 2), dtype=np.int64)
        other = areas[remaining]
        iou = (inter + _EPS) / (areas[best] + other - inter + _EPS)
        inside = (inter + _EPS) / (other + _EPS)
        remaining = remaining[(iou < iou_threshold) & (inside < inside_threshold)]
    return np.array(kept, np.int64)


def as_words(packed: UInt8[np.ndarray, "n h w8"]) -> UInt64[np.ndarray, "n h words"]:
    """Views packed bytes as 64-bit words, padding each row with zeros."""
    pad = -packed.shape[-1] % 8
    if pad:
        packed = np.pad(packed, ((0, 0), (0, 0), (0, pad)))
    return np.ascontiguousarray(packed).view(np.uint64)
