"""Match the tensors of two checkpoints by name, never by order; what is left over is listed with its reason."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from opdviz import checkpoint
from opdviz.checkpoint import Checkpoint
from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line
from opdviz.naming import WRAPPERS, Place, parse

BLOCK = 1 << 22  # elements of two tensors that are held against each other at a time
PREFIXES = ("base_model", "model", "language_model", "transformer", "bert", "roberta", "backbone")


@dataclass(frozen=True, slots=True)
class Pair:
    """The base and the tuned tensor of one name; for a stack of matrices, one slice of it.

    `shape` is the shape analysed: a convolution stands as (out, rest), a slice as its own two axes.
    """

    name: str
    tuned_name: str
    base_path: Path
    tuned_path: Path
    shape: tuple[int, ...]
    kind: str
    base_dtype: str
    tuned_dtype: str
    place: Place
    expert: int | None = None
    head_size: int | None = None

    @property
    def precisions(self) -> tuple[str, ...]:
        """How coordinates are counted: as stored and, where a side takes more than two bytes, as bf16 on both sides."""
        wide = {"float32", "float64"} & {self.base_dtype, self.tuned_dtype}
        return ("stored", "bfloat16") if wide else ("stored",)

    @property
    def float8(self) -> bool:
        """Whether a side is stored in float8, whose grid differs by scale block: no blind update can be worked out."""
        return "float8" in (FORMATS[self.base_dtype].kind, FORMATS[self.tuned_dtype].kind)

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
        return self.side(self.base_path, self.stored_name(self.name))

    @property
    def tuned(self) -> np.ndarray:
        """The tuned tensor, promoted, in `shape`."""
        return self.side(self.tuned_path, self.stored_name(self.tuned_name))

    @property
    def delta(self) -> np.ndarray:
        """tuned - base, in float64."""
        return self.tuned.astype(np.float64) - self.base.astype(np.float64)

    def stored_name(self, name: str) -> str:
        """The name in the file, without the slice number."""
        return name if self.expert is None else name[: name.rindex("[")]

    def side(self, path: Path, name: str) -> np.ndarray:
        """One side's values, read from its checkpoint."""
        first, last = (0, None) if self.expert is None else (self.expert, self.expert + 1)
        return opened(path).read(name, first, last).reshape(self.shape)


@dataclass
class Matching:
    """What two checkpoints have in common (`pairs`), what they do not (`unmatched`), and every name rewritten."""

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
def opened(path: Path) -> Checkpoint:
    """The checkpoint at a path, opened once a process."""
    return checkpoint.open(path)


def match(base: Checkpoint, tuned: Checkpoint, *, look: bool = False) -> Matching:
    """Pair the tensors of two checkpoints: exact names first, then names without their prefixes.

    A prefix rule holds only where it maps one to one and the shapes agree. An output head that a configuration calls tied
    to the embedding is counted once; with `look` only if it repeats the embedding on both sides, for which both are read.

    Raises
        RequestError: no tensor in common.
    """
    matching = Matching(base, tuned)
    ties = [tied_heads(side) for side in (base, tuned)]
    untied = [{head for head, rest in tied.items() if look and differ(side, head, rest)}
              for side, tied in zip((base, tuned), ties, strict=True)]  # fmt: skip
    kept = untied[0] | untied[1]  # a head of its own on one side is compared with the other's
    left, right = (
        candidates(side, label, matching, {head: rest for head, rest in tied.items() if head not in kept})
        for side, label, tied in zip((base, tuned), ("base", "tuned"), ties, strict=True)
    )
    for label, heads, tied in zip(("base", "tuned"), untied, ties, strict=True):
        matching.contradictions += [
            f"The {label}'s configuration calls {head} tied to {tied[head]}, but their values differ: it is counted."
            for head in sorted(heads)
        ]
    found = [(name, name) for name in left if name in right and left[name].shape == right[name].shape]
    for name in [n for n in left if n in right and left[n].shape != right[n].shape]:
        reason = f"shapes differ: base {shape_text(left[name].shape)}, tuned {shape_text(right[name].shape)}"
        list_unmatched(matching, "base", left.pop(name), reason)
        list_unmatched(matching, "tuned", right.pop(name), reason)
    for name, _ in found:
        left_info, right_info = left.pop(name), right.pop(name)
        add_pairs(matching, left_info, right_info)
    for name, other in by_core(left, right):
        matching.rewrites.append({"name": name, "tuned_name": other, "rule": "prefix", "detail": f"core {core(name)}"})
        add_pairs(matching, left.pop(name), right.pop(other))
    for side, rest in (("base", left), ("tuned", right)):
        for info in rest.values():
            list_unmatched(matching, side, info, f"only in {side}")
    if not matching.pairs:
        raise RequestError(
            f"match({one_line(base.path)}, {one_line(tuned.path)}): no tensor in common; the base has "
            f"{one_line(next(iter(base.tensors)), limit=60)}, the tuned {one_line(next(iter(tuned.tensors)), limit=60)}. "
            "Are both of one model?"
        )
    matching.pairs.sort(key=lambda p: (p.stored_name(p.name), p.expert or 0))
    matching.unmatched.sort(key=lambda row: (row["side"], row["name"]))
    return matching


def candidates(side: Checkpoint, label: str, matching: Matching, ties: dict[str, str]) -> dict[str, TensorInfo]:
    """The tensors of one side that can be paired; tied heads (`ties`: head to embedding), scales and bare float8 codes are
    taken out and listed."""
    scales = {side.scale_name(n) for n, i in side.tensors.items() if FORMATS[i.dtype].kind == "float8"}
    kept = {}
    for name, info in side.tensors.items():
        if name in scales:
            continue
        if FORMATS[info.dtype].kind == "float8" and side.scale_name(name) is None:
            list_unmatched(matching, label, info, "float8 without a scale tensor: its codes say nothing")
        elif name in ties:
            matching.rewrites.append(
                {"name": name, "tuned_name": ties[name], "rule": "tie", "detail": f"{label}: counted once"}
            )
        else:
            kept[name] = info
    for name, first in side.aliases.items():
        matching.rewrites.append({"name": name, "tuned_name": first, "rule": "tie", "detail": f"{label}: same storage"})
    return kept


def tied_heads(side: Checkpoint) -> dict[str, str]:
    """The output heads that the model's own configuration calls tied, each with the embedding of its shape."""
    if not side.config.get("tie_word_embeddings"):
        return {}
    modules = {name: parse(name).module for name, info in side.tensors.items() if len(info.shape) == 2}
    embeddings = [name for name, module in modules.items() if module in ("embed_tokens", "wte", "embed_in")]
    ties = {}
    for head in (name for name, module in modules.items() if module in ("lm_head", "embed_out")):
        shape = side.tensors[head].shape
        if rest := next((name for name in embeddings if side.tensors[name].shape == shape), None):
            ties[head] = rest
    return ties


def differ(side: Checkpoint, first: str, second: str) -> bool:
    """Whether two tensors of one shape hold different values; read by rows, up to the first difference."""
    rows, columns = side.tensors[first].shape
    step = max(1, BLOCK // max(1, columns))
    for low in range(0, rows, step):
        high = min(low + step, rows)
        if not np.array_equal(side.read(first, low, high), side.read(second, low, high), equal_nan=True):
            return True
    return False


def core(name: str) -> str:
    """A name without wrappers anywhere and without the model prefixes before it.

    >>> core("_orig_mod.model.language_model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    """
    segments = [s for s in name.split(".") if s not in WRAPPERS]
    while len(segments) > 1 and segments[0] in PREFIXES:
        segments = segments[1:]
    return ".".join(segments)


def by_core(left: dict[str, TensorInfo], right: dict[str, TensorInfo]) -> list[tuple[str, str]]:
    """Names of both sides with one and the same core, where that is one to one and the shapes agree."""
    cores: tuple[dict, dict] = (defaultdict(list), defaultdict(list))
    for side, names in zip(cores, (left, right)):
        for name in names:
            side[core(name)].append(name)
    return [
        (a[0], b[0])
        for key, a in cores[0].items()
        if len(a) == 1 and len(b := cores[1].get(key, [])) == 1 and left[a[0]].shape == right[b[0]].shape
    ]


def add_pairs(matching: Matching, left: TensorInfo, right: TensorInfo) -> None:
    """Add one pair, or one a slice for a stack of experts."""
    matching.tensors += 1
    kind, shape = kind_of(left.name, left.shape)
    sides = (matching.base.path, matching.tuned.path)
    for e in range(left.shape[0]) if kind == "stack" else (None,):
        name, other = (left.name, right.name) if e is None else (f"{left.name}[{e}]", f"{right.name}[{e}]")
        place = parse(name)
        size = head_size(matching.base.config) if place.block == "attention" and place.tower == "language" else None
        pair = Pair(name, other, *sides, shape, kind, left.dtype, right.dtype, place, e, size)
        matching.pairs.append(pair)


def head_size(config: dict) -> int | None:
    """The width of one attention head by the model's configuration; `None` where it does not say.

    >>> head_size({"hidden_size": 384, "num_attention_heads": 12})
    32
    """
    config = config.get("text_config", config)
    hidden, heads = (config.get(k) for k in ("hidden_size", "num_attention_heads"))
    if type(config.get("head_dim")) is int:
        return config["head_dim"]
    return hidden // heads if type(hidden) is int and type(heads) is int and heads else None


def head_counts(config: dict) -> dict[str, int]:
    """How attention is split by the model's configuration: heads of the query, of key and value, and their width.

    >>> head_counts({"hidden_size": 384, "num_attention_heads": 12})
    {'query': 12, 'key_value': 12, 'size': 32}
    """
    size, config = head_size(config), config.get("text_config", config)
    query = config.get("num_attention_heads")
    shared = config.get("num_key_value_heads", query)
    if not (size and type(query) is int and type(shared) is int):
        return {}
    return {"query": query, "key_value": shared, "size": size}


def kind_of(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The kind of a tensor and the shape it is analysed in.

    >>> kind_of("visual.patch_embed.proj.weight", (8, 3, 2, 2))
    ('convolution', (8, 12))
    """
    if len(shape) < 2:
        return ("vector", shape) if shape else ("scalar", (1,))
    if len(shape) == 2:
        return "matrix", shape
    if len(shape) == 3 and "experts" in name.split("."):
        return "stack", shape[1:]
    return "convolution", (shape[0], math.prod(shape[1:]))


def list_unmatched(matching: Matching, side: str, info: TensorInfo, reason: str) -> None:
    """Add a left-over tensor with its reason."""
    row = {"side": side, "name": info.name, "shape": shape_text(info.shape), "reason": reason}
    matching.unmatched.append(row)


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as text.

    >>> shape_text((64, 160))
    '64x160'
    """
    return "x".join(str(n) for n in shape) or "scalar"
