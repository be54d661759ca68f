"""Sizes that arrays of any length are padded to, so that few shapes are compiled."""

# Of names, prompts and masks: fewer are not worth a shape of their own.
SMALLEST_BUCKET = 16


def bucket_size(count: int, smallest: int = 1) -> int:
    """Returns the smallest power of two that holds `count` items, but at least `smallest`."""
    return max(smallest, 1 << max(0, count - 1).bit_length())
