"""Captioned images as the network takes them; what cannot be read becomes an empty example."""

import dataclasses

import numpy as np

from uniovseg_jax.alignment.captioned import CaptionedImages
from uniovseg_jax.alignment.regions import BoxedImage, box_image
from uniovseg_jax.captions.record import CaptionRecord, ImageReference
from uniovseg_jax.data.crop import PADDING
from uniovseg_jax.data.skipped import SkippedRecords
from uniovseg_jax.files import one_line


def read_boxed(
    images: CaptionedImages, index: int, side: int, skipped: SkippedRecords
) -> tuple[CaptionRecord, BoxedImage]:
    """Returns a caption and its letterboxed image.

    A record or image that cannot be read gives a grey image without entities, whose caption has the
    status `failed`, so that nothing moves in the order of the others.

    Args:
      images: Threads may share them.
      index: Of the image.
      side: Of the network's input.
      skipped: Counts what cannot be read.

    Raises:
      ValueError: If there is too much of that.
    """
    caption = CaptionRecord(f"number {index}", ImageReference("file", ""), ())
    try:
        caption, decode = images[index]
        boxed = box_image(decode(), side)
    except (ValueError, OSError) as error:
        skipped.count(caption.id, ValueError(one_line(error)))
        failed = dataclasses.replace(
            caption, entities=(), num_entities=0, status="failed", error=one_line(error)
        )
        return failed, box_image(np.full((side, side, 3), PADDING, np.uint8), side)
    skipped.count()
    return caption, boxed
