"""What is known of a tensor before its data are read."""

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's name, shape, dtype (name in FORMATS), file, and byte offset (-1 where the format has none)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Path
    offset: int = -1

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)
