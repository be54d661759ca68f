"""Sizes of steps."""

from uniovseg_jax.ops.chunks import chunk_size


def test_chunks_stay_within_their_size():
    assert chunk_size(24, 9) == 8
    assert chunk_size(9, 9) == 9
    assert chunk_size(11, 9) == 1
