"""Match the tensors of two checkpoints by name, never by order; what is left over is listed with
its reason.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from opdviz import checkpoint, layouts, ties
from opdviz.checkpoint import Checkpoint
from opdviz.checkpoint.formats import FORMATS, Promoted
from opdviz.checkpoint.merged import on_base
from opdviz.checkpoint.records import MOST_TENSORS, Source, TensorInfo, uncollected
from opdviz.definitions import WIDE
from opdviz.errors import RequestError, one_line
from opdviz.naming import Place, head_size, is_stack, parse

MOST_PAIRS = MOST_TENSORS
FLOAT8 = {name for name, form in FORMATS.items() if form.kind == "float8"}


class Pair(NamedTuple):
    """The base and the tuned tensor of one name; for a stack of matrices, one slice of it.

    `shape` is the shape analysed: a convolution stands as (out, rest), a slice as its own two axes.
    `width` is that of an attention head of the model.
    """

    name: str
    tuned_name: str
    base_source: Source
    tuned_source: Source
    shape: tuple[int, ...]
    kind: str
    base_dtype: str
    tuned_dtype: str
    expert: int | None = None
    width: int | None = None

    @property
    def place(self) -> Place:
        """Where the tensor stands in its model, read off its name: asked of a few at a time, never
        of a million.
        """
        return parse(self.name)

    @property
    def head_size(self) -> int | None:
        """The width of an attention head, where the tensor has heads and a configuration tells."""
        place = self.place if self.width else None
        return (
            self.width
            if place and place.block == "attention" and place.tower in ("language", "decoder")
            else None
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """How coordinates are counted: as stored and, where a side takes more than two bytes, as
        bf16 on both sides.
        """
        wide = self.base_dtype in WIDE or self.tuned_dtype in WIDE
        return ("stored", "bfloat16") if wide else ("stored",)

    @property
    def float8(self) -> bool:
        """Whether a side is stored in float8, whose grid differs by scale block: no blind update
        can be worked out.
        """
        return bool(FLOAT8 & {self.base_dtype, self.tuned_dtype})

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether the pair has a spectrum: two axes, both longer than one."""
        return len(self.shape) == 2 and min(self.shape) > 1

    @property
    def base(self) -> np.ndarray:
        """The base tensor, promoted, in `shape`."""
        return self.side(self.base_source, self.stored_name(self.name))

    @property
    def tuned(self) -> np.ndarray:
        """The tuned tensor, promoted, in `shape`."""
        return self.side(self.tuned_source, self.stored_name(self.tuned_name))

    @property
    def delta(self) -> np.ndarray:
        """tuned - base, in float64."""
        return self.tuned.astype(np.float64) - self.base.astype(np.float64)

    def stored_name(self, name: str) -> str:
        """The name in the file, without the slice number."""
        return name if self.expert is None else name[: name.rindex("[")]

    @property
    def sixteen_bits(self) -> tuple[Promoted, Promoted]:
        """Both sides of a pair in 16-bit formats, promoted only where they are asked for."""
        sides = ((self.base_source, self.name), (self.tuned_source, self.tuned_name))
        raw = (opened(s).read_raw(self.stored_name(name), *self.rows_read) for s, name in sides)
        base, tuned = (Promoted(bits, info.dtype).reshape(self.shape) for bits, info in raw)
        return base, tuned

    @property
    def rows_read(self) -> tuple[int, int | None]:
        """Which rows of the stored tensors it is: the first one and the one after the last."""
        return (0, None) if self.expert is None else (self.expert, self.expert + 1)

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The factors (m, q) and (q, n) of the update, in float64, where an adapter adds their
        product.
        """
        name = self.stored_name(self.tuned_name)
        return opened(self.tuned_source).factors(name, self.expert)

    def side(self, source: Source, name: str) -> np.ndarray:
        """One side's values, read from its checkpoint."""
        return opened(source).read(name, *self.rows_read).reshape(self.shape)


@dataclass
class Matching:
    """What two checkpoints have in common (`pairs`), what they do not (`unmatched`), and every name
    rewritten.
    """

    base: Checkpoint
    tuned: Checkpoint
    pairs: list[Pair] = field(default_factory=list)
    tensors: int = 0
    unmatched: list[dict] = field(default_factory=list)
    rewrites: list[dict] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """The number of float elements paired."""
        return sum(p.numel for p in self.pairs if FORMATS[p.base_dtype].kind != "integer")


@lru_cache(maxsize=8)
def opened(source: Source) -> Checkpoint:
    """The checkpoint of a source, opened once a process."""
    return checkpoint.reopened(source)


@uncollected
def match(base: Checkpoint, tuned: Checkpoint, *, look: bool = False) -> Matching:
    """Pair the tensors of two checkpoints: exact names first, then names without their prefixes.

    A prefix rule holds only where it maps one to one and the shapes agree. An output head that a
    configuration calls tied to the embedding is counted once; with `look` only if it repeats the
    embedding on both sides, for which both are read.

    Raises
        RequestError: no tensor in common, or more pairs than can be held.
    """
    tuned = on_base(base, tuned)
    base, tuned, rewrites, rows, undecided = layouts.aligned(base, tuned)
    matching, width = Matching(base, tuned, rewrites=rewrites), head_size(base.config)
    for side, info, reason in rows:
        list_unmatched(matching, side, info, reason)
    left, right = sides_of(matching, look=look)
    for name in [name for name in left if name in right]:
        info, its = left.pop(name), right.pop(name)
        if info.shape == its.shape:
            add_pairs(matching, info, its, width)
            continue
        reason = f"shapes differ: base {shape_text(info.shape)}, tuned {shape_text(its.shape)}"
        list_unmatched(matching, "base", info, reason)
        list_unmatched(matching, "tuned", its, reason)
    for key, name, other in by_core(matching, left, right):
        matching.rewrites.append(
            {"name": name, "tuned_name": other, "rule": "prefix", "detail": f"core {key}"}
        )
        add_pairs(matching, left.pop(name), right.pop(other), width)
    for side, rest in (("base", left), ("tuned", right)):
        for info in rest.values():
            reason = undecided[side].get(info.name)
            list_unmatched(matching, side, info, reason or f"only in {side}")
    if not matching.pairs:
        raise nothing_in_common(base, tuned)
    matching.pairs.sort(key=lambda p: (p.stored_name(p.name), p.expert or 0))
    matching.unmatched.sort(key=lambda row: (row["side"], row["name"]))
    return matching


def nothing_in_common(base: Checkpoint, tuned: Checkpoint) -> RequestError:
    """The refusal of two checkpoints of which no tensor pairs: by a name that both have in other
    shapes, else by one of each.
    """
    first, second = next(iter(base.tensors)), next(iter(tuned.tensors))
    descriptions = [f"{one_line(first, limit=60)}", f"{one_line(second, limit=60)}"]
    if both := next((name for name in base.tensors if name in tuned.tensors), None):
        shapes = (shape_text(side.tensors[both].shape) for side in (base, tuned))
        descriptions = [f"{one_line(both, limit=60)} in shape {shape}" for shape in shapes]
    return RequestError(
        f"match({one_line(base.path)}, {one_line(tuned.path)}): no tensor in common; the base"
        f" has {descriptions[0]}, the tuned {descriptions[1]}. Are both of one model?"
    )


def sides_of(matching: Matching, *, look: bool) -> list[dict[str, TensorInfo]]:
    """The candidates of both sides; a head of its own on one side is compared with the other's,
    though that be tied.
    """
    sides = ((matching.base, "base"), (matching.tuned, "tuned"))
    tied = [ties.tied_heads(side) for side, _ in sides]
    untied: dict[str, str] = {}
    for (side, label), heads in zip(sides, tied, strict=True):
        broken = ties.contradictions(side, label, heads) if look else {}
        matching.contradictions += broken.values()
        untied |= broken
    if look:
        for heads, (side, _), (other, _) in zip(tied, sides, reversed(sides), strict=True):
            heads |= ties.repeated_heads(side, other)
    return [
        candidates(
            side,
            label,
            matching,
            {head: other for head, other in heads.items() if head not in untied},
        )
        for (side, label), heads in zip(sides, tied, strict=True)
    ]


def candidates(
    side: Checkpoint, label: str, matching: Matching, tied: dict[str, str]
) -> dict[str, TensorInfo]:
    """The tensors of one side that can be paired; tied heads (`tied`: head to embedding), scales
    and bare float8 codes are taken out and listed.
    """
    codes = {
        name: side.scale_fits(name) for name, info in side.tensors.items() if info.dtype in FLOAT8
    }
    scales = {side.scale_name(name) for name, fits in codes.items() if fits}
    candidates_ = {}
    for name, info in side.tensors.items():
        if name in scales:
            continue
        if name in codes and not codes[name]:
            scale = side.scale_name(name)
            reason = (
                f"whose scale tensor {shape_text(side.tensors[scale].shape)} does not fit"
                if scale
                else ""
            )
            reason = f"float8 {reason or 'without a scale tensor'}: its codes say nothing"
            list_unmatched(matching, label, info, reason)
            continue
        if name in tied:
            matching.rewrites.append(
                {
                    "name": name,
                    "tuned_name": tied[name],
                    "rule": "tie",
                    "detail": f"{label}: counted once",
                }
            )
            continue
        candidates_[name] = info
    for name, first in side.aliases.items():
        matching.rewrites.append(
            {"name": name, "tuned_name": first, "rule": "tie", "detail": f"{label}: same storage"}
        )
    return candidates_


def by_core(
    matching: Matching, left: dict[str, TensorInfo], right: dict[str, TensorInfo]
) -> list[tuple[str, str, str]]:
    """Core, base name and tuned name where one name of each side has that core, and the shapes
    agree.
    """
    cores: tuple[dict, dict] = (defaultdict(list), defaultdict(list))
    sides = ((matching.base, left), (matching.tuned, right))
    for by_name, (side, names) in zip(cores, sides, strict=True):
        for name in names if left and right else ():
            by_name[side.cores[name]].append(name)
    return [
        (key, a[0], b[0])
        for key, a in cores[0].items()
        if len(a) == 1
        and len(b := cores[1].get(key, ())) == 1
        and left[a[0]].shape == right[b[0]].shape
    ]


def add_pairs(matching: Matching, left: TensorInfo, right: TensorInfo, width: int | None) -> None:
    """Add one pair, or one a slice for a stack of experts; `width` is that of an attention head.

    Raises
        RequestError: there are more than can be held.
    """
    matching.tensors += 1
    kind, shape = kind_of(left.name, left.shape)
    slices = left.shape[0] if kind == "stack" else 1
    if len(matching.pairs) + slices > MOST_PAIRS:
        raise RequestError(
            f"match({one_line(matching.base.path)}, {one_line(matching.tuned.path)}): found more"
            f" than {MOST_PAIRS:,} pairs with the {slices:,} of {one_line(left.name, limit=60)};"
            " expected fewer."
        )
    sources = (matching.base.source, matching.tuned.source)
    for e in range(slices) if kind == "stack" else (None,):
        name, other = (
            (left.name, right.name) if e is None else (f"{left.name}[{e}]", f"{right.name}[{e}]")
        )
        matching.pairs.append(
            Pair(name, other, *sources, shape, kind, left.dtype, right.dtype, e, width)
        )


def kind_of(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The kind of a tensor and the shape it is analysed in.

    >>> kind_of("visual.patch_embed.proj.weight", (8, 3, 2, 2))
    ('convolution', (8, 12))
    """
    if len(shape) < 2:
        return ("vector", shape) if shape else ("scalar", (1,))
    if len(shape) == 2:
        return "matrix", shape
    # Many experts of nothing are one tensor.
    if len(shape) == 3 and is_stack(name) and math.prod(shape):
        return "stack", shape[1:]
    return "convolution", (shape[0], math.prod(shape[1:]))


def list_unmatched(matching: Matching, side: str, info: TensorInfo, reason: str) -> None:
    """Add a left-over tensor with its reason."""
    row = {"side": side, "name": info.name, "shape": shape_text(info.shape), "reason": reason}
    matching.unmatched.append(row)


@lru_cache(maxsize=1 << 12)
def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as text.

    >>> shape_text((64, 160))
    '64x160'
    """
    return "x".join(str(n) for n in shape) or "scalar"
