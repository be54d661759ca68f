"""Some records of a source."""

from typing import Any

import numpy as np
from jaxtyping import Int


class Subset:
    """Random access to some records of a source, in an order of its own."""

    def __init__(self, source: Any, indices: Int[np.ndarray, " n"]):
        """Takes anything with `[i]`, and the places of the records."""
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        """Returns one of them."""
        return self._source[int(self._indices[index])]
