"""An open checkpoint: what its headers say, and its tensors, read on demand."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from opdviz.checkpoint.formats import FORMATS, promote
from opdviz.checkpoint.readers import reader_of
from opdviz.checkpoint.records import Source, TensorInfo
from opdviz.errors import RequestError, one_line
from opdviz.naming import core

SCALES = ("_scale_inv", "_scale")
SCALE_BLOCK = 128


@dataclass
class Checkpoint:
    """An open checkpoint: `tensors` by name, the `files` that hold them, and `notes` on what was
    chosen.
    """

    path: Path
    files: list[Path]
    tensors: dict[str, TensorInfo]
    notes: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    word: str = ""  # as somebody named it, where that was on a hub

    @cached_property
    def cores(self) -> dict[str, str]:
        """Every name without the model's prefixes: what both sides may have in common."""
        return {name: core(name) for name in self.tensors}

    @property
    def source(self) -> Source:
        """What it can be opened from again."""
        return Source(self.path)

    def factors(self, name: str, at: int | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """The factors (m, q) and (q, n) whose product an adapter adds to a tensor, or to number
        `at` of a stack; `None` where nothing is added so.
        """
        return None

    def read(self, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """Rows `first` to `last` (all by default) of a tensor, promoted: float32, float64, or
        integers as they are.

        float8 codes are multiplied by their scale tensor. A scalar comes as an array of one
        element.

        Raises
            RequestError: no tensor of that name, or float8 codes without a scale.
        """
        raw, info = self.read_raw(name, first, last)
        values = promote(raw, info.dtype)
        if FORMATS[info.dtype].kind == "float8":
            # A scale may be too large, infinite or NaN.
            with np.errstate(over="ignore", invalid="ignore"):
                return values * self.scale(name, first, first + len(raw))
        return values

    def read_raw(
        self, name: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, TensorInfo]:
        """The same rows as they are stored (bits, where numpy has no such number), and what is
        known of the tensor.

        Raises
            RequestError: no tensor of that name.
        """
        if name not in self.tensors:
            raise RequestError(f"read({one_line(name, limit=80)}): no such tensor in {self.path}")
        info = self.tensors[name]
        last = (info.shape[0] if info.shape else 1) if last is None else last
        return reader_of(info.path).read(info, first, last), info

    def scale_name(self, name: str) -> str | None:
        """The name of the scale tensor that belongs to a float8 tensor, if it is there."""
        return next((name + s for s in SCALES if name + s in self.tensors), None)

    def scale_fits(self, name: str) -> bool:
        """Whether a float8 tensor has a scale whose numbers each belong to known elements."""
        scale = self.tensors.get(self.scale_name(name) or "")
        if scale is None or FORMATS[scale.dtype].kind != "float" or not scale.numel:
            return False
        shape = self.tensors[name].shape
        if scale.numel == 1:
            return True
        # A scale may have fewer axes than its tensor: one number a row.
        lengths = zip(scale.shape, shape, strict=False)
        return len(scale.shape) <= len(shape) and all(
            0 < count <= max(length, 1) for count, length in lengths
        )

    def scale(self, name: str, first: int, last: int) -> np.ndarray:
        """The scale of rows `first` to `last`: one number, or one a row, or one a block of it."""
        if not self.scale_fits(name):
            raise RequestError(
                f"read({one_line(name, limit=80)}): float8 without a scale tensor that fits; its"
                " codes say nothing"
            )
        scale = np.asarray(self.read(self.scale_name(name)), dtype=np.float32)
        if scale.size == 1:
            return scale.reshape(())
        shape = self.tensors[name].shape
        for axis, length in enumerate(shape[: scale.ndim]):
            if scale.shape[axis] not in (1, length):
                whole = -(-length // scale.shape[axis])
                block = SCALE_BLOCK if -(-length // SCALE_BLOCK) == scale.shape[axis] else whole
                scale = np.repeat(scale, block, axis=axis).take(range(length), axis=axis)
        scale = scale.reshape(scale.shape + (1,) * (len(shape) - scale.ndim))
        return scale[first:last] if scale.shape[0] > 1 else scale
