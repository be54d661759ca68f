"""Pictures of results with numpy and Pillow: overlays, coloured label maps, contact sheets."""

import colorsys
import functools
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from uniovseg_jax.packed_masks import PackedMasks

# Overlays of small images are enlarged until names are legible, those of huge ones reduced.
_SMALLEST_SIDE = 512
_LARGEST_SIDE = 4096
_VOID_COLOUR = (40, 40, 40)
_OUTLINE = (255, 60, 40)
_OTHER_OUTLINE = (30, 90, 255)
# Squared distance in RGB under which two colours are hard to tell apart.
_NEAR = 60**2
# Beyond this many names no effort is made to keep colours apart.
_MOST_DISTINCT = 64


def outline_mask(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    other: Bool[np.ndarray, "h w"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Fades what is outside a mask and draws its border in red, over that of another in blue."""
    faded = np.where(mask[..., None], image, (image * 0.45 + 140).astype(np.uint8))
    if other is not None:
        faded[_border(other)] = _OTHER_OUTLINE
    faded[_border(mask)] = _OUTLINE
    return faded


def _border(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def distinct_colours(names: Sequence[str]) -> UInt8[np.ndarray, "n 3"]:
    """Returns one colour per name: fixed by the name, and moved on only where two would be alike.

    The first name always gets its own colour; beyond about 40 names some look alike.
    """
    colours = np.zeros((0, 3), np.uint8)
    for name in names:
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        candidates = np.array([_colour(start + step) for step in range(_MOST_DISTINCT)], np.uint8)
        chosen = 0
        if 0 < len(colours) < _MOST_DISTINCT:
            difference = candidates[:, None].astype(int) - colours
            distance = (difference**2).sum(axis=-1).min(axis=1)
            # The first that is far from all others, else the one that is farthest.
            chosen = int(np.argmax(np.minimum(distance, _NEAR)))
        colours = np.concatenate([colours, candidates[chosen : chosen + 1]])
    return colours


def _colour(index: int) -> tuple[int, ...]:
    """Walks the hues in golden-ratio steps, through three levels of brightness and saturation."""
    hue = (index * 0.618033988749895) % 1.0
    value, saturation = ((1.0, 0.85), (0.75, 0.95), (0.95, 0.5))[index // 7 % 3]
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))


def colour_label_map(
    label_map: Integer[np.ndarray, "h w"], colours: UInt8[np.ndarray, "n 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Paints label k + 1 in colour k, and 0 (void) dark grey."""
    palette = np.concatenate([np.array([_VOID_COLOUR], np.uint8), colours])
    return palette[label_map]


def overlay(
    image: UInt8[np.ndarray, "h w 3"],
    label_map: Integer[np.ndarray, "h w"],
    colours: UInt8[np.ndarray, "n 3"],
    captions: Mapping[int, str] | None = None,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws coloured segments with outlines and names over an image.

    Small images are enlarged by a whole factor and huge ones reduced; a name that finds no free
    place is left out.

    Args:
      image: The image.
      label_map: 0 for void, k + 1 for the segment drawn in colour k.
      colours: One colour per segment.
      captions: Names by label.
      opacity: Share of the colour, 0..1.
    """
    image, label_map = _fit_for_viewing(image, label_map)
    h, w = label_map.shape
    thickness = 1 + max(h, w) // 1000
    canvas = np.empty_like(image)
    # Row by row, because a float copy of a large photograph takes hundreds of megabytes.
    for top in range(0, h, 256):
        rows = slice(top, top + 256)
        part, labels = image[rows].astype(np.float32), label_map[rows]
        tint = colour_label_map(labels, colours).astype(np.float32)
        share = np.where(labels > 0, opacity, 0.0)[..., None].astype(np.float32)
        canvas[rows] = np.rint(part * (1 - share) + tint * share)
    canvas[_outlines(label_map, thickness)] = 255
    picture = Image.fromarray(canvas)
    if captions:
        _draw_captions(picture, label_map, colours, captions)
    return np.asarray(picture)


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"], masks: PackedMasks, order: PackedMasks | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws masks over an image, each in a colour of its own, small ones over large ones.

    Args:
      image: Of the masks' size.
      masks: To draw.
      order: As many masks whose areas decide what is over what, such as the true ones where `masks`
        are the best for each; None for `masks`.
    """
    label_map = np.zeros(image.shape[:2], np.int32)
    for row in np.argsort(-(order or masks).areas, kind="stable").tolist():
        label_map[masks.mask(row)] = row + 1
    return overlay(image, label_map, distinct_colours([f"mask {row}" for row in range(len(masks))]))


def thumbnail(picture: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Returns the picture with a long side of at most `side` pixels."""
    small = Image.fromarray(picture)
    small.thumbnail((side, side))
    return np.asarray(small)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
    titles: Sequence[str],
    columns: int | None = None,
    cell: int = 384,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lays pictures of any size out in a grid, each fitted to the cell's width or height.

    Args:
      images: At least one picture.
      titles: One line per picture; cut where it is wider than the cell.
      columns: Pictures per row; by default the sheet is about as wide as it is high.
      cell: Side of a cell in pixels.
    """
    columns = columns or math.ceil(len(images) ** 0.5)
    font = _font(15)
    strip, gap = 24, 8
    pictures = []
    for image in images:
        picture = Image.fromarray(image)
        scale = cell / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        pictures.append(picture.resize(size, Image.Resampling.BILINEAR))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in row) + strip + gap for row in rows]
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, sum(heights) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        x = gap + index % columns * (cell + gap)
        y = gap + sum(heights[: index // columns])
        while title and draw.textlength(title, font=font) > cell:
            title = title[:-2] + "…" if len(title) > 2 else ""
        draw.text((x, y + 2), title, fill="black", font=font)
        sheet.paste(picture, (x, y + strip))
    return np.asarray(sheet)


def _fit_for_viewing(
    image: UInt8[np.ndarray, "h w 3"], label_map: Integer[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Integer[np.ndarray, "h2 w2"]]:
    h, w = label_map.shape
    factor = min(-(-_SMALLEST_SIDE // max(h, w)), 64)
    if factor > 1:
        image = image.repeat(factor, axis=0).repeat(factor, axis=1)
        return image, label_map.repeat(factor, axis=0).repeat(factor, axis=1)
    if max(h, w) <= _LARGEST_SIDE:
        return image, label_map
    scale = _LARGEST_SIDE / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    rows = ((np.arange(size[1]) + 0.5) * h / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * w / size[0]).astype(int)
    return small, label_map[rows[:, None], columns]


def _outlines(label_map: Integer[np.ndarray, "h w"], thickness: int) -> Bool[np.ndarray, "h w"]:
    """Marks pixels within `thickness` above or left of a change of label."""
    edges = np.zeros(label_map.shape, bool)
    for shift in range(1, thickness + 1):
        edges[:-shift] |= label_map[shift:] != label_map[:-shift]
        edges[:, :-shift] |= label_map[:, shift:] != label_map[:, :-shift]
    return edges


@functools.lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _innermost_point(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "2"]:
    """Returns x, y of a point deep inside a mask: what peeling it on a coarse grid leaves."""
    step = max(1, max(mask.shape) // 96)
    coarse = np.pad(mask[step // 2 :: step, step // 2 :: step], 1)
    if not coarse.any():
        y, x = np.argwhere(mask)[0]
        return np.array([x, y], np.float64)
    while True:
        peeled = coarse.copy()
        peeled[1:-1, 1:-1] &= (
            coarse[:-2, 1:-1] & coarse[2:, 1:-1] & coarse[1:-1, :-2] & coarse[1:-1, 2:]
        )
        if not peeled.any():
            break
        coarse = peeled
    points = np.argwhere(coarse)
    y, x = points[np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))] - 1
    return np.array([x * step + step // 2, y * step + step // 2], np.float64)


def _draw_captions(
    picture: Image.Image,
    label_map: Integer[np.ndarray, "h w"],
    colours: UInt8[np.ndarray, "n 3"],
    captions: Mapping[int, str],
) -> None:
    """Writes each name on a plate of its segment's colour, the largest segments first."""
    draw = ImageDraw.Draw(picture)
    font = _font(max(13, max(picture.size) // 40))
    areas = np.bincount(label_map.ravel(), minlength=max(captions) + 1)
    taken: list[tuple[float, float, float, float]] = []
    for label in sorted(captions, key=lambda k: (-areas[k], k)):
        if not areas[label]:
            continue
        x, y = _innermost_point(label_map == label)
        _, top, width, bottom = draw.textbbox((0, 0), captions[label], font=font)
        pad = 3
        w, h = width + 2 * pad, bottom - top + 2 * pad
        left = min(max(x - w / 2, 0), max(picture.width - w, 0))
        for shift in (0, -1, 1, -2, 2):
            upper = min(max(y - h / 2 + shift * (h + 1), 0), max(picture.height - h, 0))
            plate = (left, upper, left + w, upper + h)
            if not any(
                plate[0] < other[2]
                and other[0] < plate[2]
                and plate[1] < other[3]
                and other[1] < plate[3]
                for other in taken
            ):
                break
        else:
            continue
        taken.append(plate)
        colour = tuple(int(channel) for channel in colours[label - 1])
        dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 128
        draw.rectangle(plate, fill=colour, outline="white")
        draw.text(
            (left + pad, upper + pad - top),
            captions[label],
            font=font,
            fill="white" if dark else "black",
        )
