import pytest

from uniovseg_jax.buckets import bucket_size


@pytest.mark.parametrize(
    ("count", "smallest", "size"),
    [(0, 1, 1), (1, 1, 1), (2, 1, 2), (3, 1, 4), (4, 1, 4), (5, 1, 8), (3, 16, 16), (17, 16, 32)],
)
def test_bucket_is_the_next_power_of_two_and_not_too_small(count, smallest, size):
    assert bucket_size(count, smallest) == size
