"""How work is cut on a CPU so that a step's values stay in cache."""


def chunk_size(count: int, limit: int) -> int:
    """The largest divisor of `count` up to `limit`: all steps are of one size."""
    return max(size for size in range(1, min(limit, count) + 1) if count % size == 0)
