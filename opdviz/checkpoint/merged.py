"""A base with a LoRA adapter added: `W + s B A`, stored as the base is.

Added in float64 and rounded once. PEFT's own merge rounds the product first where the base has 16
bits, and may then differ by a step of the format.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from opdviz.checkpoint.adapter import Adapter, parts_of, refused, scale_of
from opdviz.checkpoint.formats import FORMATS, codes_in, rounded
from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.records import Source, TensorInfo
from opdviz.errors import RequestError, one_line
from opdviz.naming import ALONE, PARTS, core
from opdviz.words import listing

EMBEDDING = ".lora_embedding_"
# A tensor of one expert below the module of all of them.
PIECE = re.compile(r"[0-9]{1,6}\.\w+")
# What is one parameter of all experts in memory, and the tensors an expert that files have of it.
FUSED = (
    *(("gate_up_proj", *words) for words in PARTS["gate_up_proj"]),
    *(("down_proj", word) for word in ALONE["down_proj"]),
)
ELEMENTS = 1 << 22  # that are added at a time


class Update(NamedTuple):
    """What an adapter adds to one tensor: `scale` times the product of two of its tensors.

    `flipped`: the tensor is stored as inputs by outputs. `experts`: how many share the factors, of
    which the tensor is number `expert`, or all in a stack. `outputs`: which of the product's rows
    it has, where it was saved in pieces.
    """

    a: str
    b: str
    scale: float
    flipped: bool
    experts: int = 0
    expert: int | None = None
    outputs: slice = slice(None)
    magnitude: str | None = None


@dataclass
class Merged(Checkpoint):
    """A base with an adapter added: its tensors are the base's, and those that the adapter has
    whole.
    """

    base: Checkpoint | None = None
    adapter: Adapter | None = None
    updates: dict[str, Update] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    gains: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    held: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> Source:
        """What it can be opened from again."""
        return Source(self.path, self.base.source)

    def read(self, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """Rows of a tensor as merging stores them, promoted (`Checkpoint.read`)."""
        values = self.before(name, first, last)
        if name not in self.updates:
            return values
        form = self.tensors[name].dtype
        blocks = [
            rounded(block, form).astype(values.dtype) for block in self.sums(name, values, first)
        ]
        return np.concatenate(blocks) if blocks else values

    def read_raw(
        self, name: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, TensorInfo]:
        """The same rows as merging stores them, bits where numpy has no such number."""
        if name not in self.updates:
            side = self.adapter if name in self.replaced else self.base
            return side.read_raw(self.replaced.get(name, name), first, last)
        info, values = self.tensors[name], self.read(name, first, last)
        if info.dtype == "bfloat16":
            return codes_in("bfloat16", values, "float32"), info
        return values.astype(info.dtype), info

    def before(self, name: str, first: int, last: int | None) -> np.ndarray:
        """Rows of a tensor to which an update may be added: the base's, or the adapter's own."""
        side = self.adapter if name in self.replaced else self.base
        return side.read(self.replaced.get(name, name), first, last)

    def sums(self, name: str, values: np.ndarray, first: int) -> Iterator[np.ndarray]:
        """Base and product of rows that begin at `first`, in float64, some rows at a time."""
        update = self.updates[name]
        if update.experts and update.expert is None:
            for at, block in enumerate(values, first):
                left, right = self.products_of(name, at)
                yield (block.astype(np.float64) + left @ right)[None]
            return
        left, right = self.products_of(name)
        gains = self.column_gains(name) if update.magnitude and update.flipped else None
        size = max(1, ELEMENTS // max(1, right.shape[1]))
        for low in range(0, len(values), size):
            block = values[low : low + size]
            rows = slice(first + low, first + low + len(block))
            total = block.reshape(len(block), -1) + left[rows] @ right
            if gains is not None:
                total *= gains
            elif update.magnitude:
                with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros has no length
                    gain = self.magnitude(update)[rows] / np.linalg.norm(total, axis=1)
                total *= gain[:, None]
            yield total.reshape(block.shape)

    def magnitude(self, update: Update) -> np.ndarray:
        """DoRA's lengths of the rows (columns, where flipped) of what is stored."""
        return self.adapter.read(update.magnitude).astype(np.float64).reshape(-1)

    def column_gains(self, name: str) -> np.ndarray:
        """DoRA's factor of every column of a tensor stored as inputs by outputs."""
        if name not in self.gains:  # one tensor at a time is read, by blocks of rows
            self.gains = {name: self.summed_gains(name)}
        return self.gains[name]

    def summed_gains(self, name: str) -> np.ndarray:
        """The same, worked out over all rows."""
        left, right = self.products_of(name)
        total, size = np.zeros(right.shape[1]), max(1, ELEMENTS // right.shape[1])
        for low in range(0, len(left), size):
            block = self.before(name, low, min(low + size, len(left)))
            total += np.sum((block + left[low : low + size] @ right) ** 2, axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a column of zeros has no length
            return self.magnitude(self.updates[name]) / np.sqrt(total)

    def products_of(self, name: str, at: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The two factors of a tensor's update, or of number `at` of a stack, in the orientation in
        which it is stored.
        """
        update = self.updates[name]
        if update.experts:
            at = update.expert if at is None else at
            # One expert after the other along A's rows; along B's columns they alternate.
            rank = self.adapter.tensors[update.a].shape[0] // update.experts
            a = self.adapter.read(update.a, at * rank, (at + 1) * rank)
            b = self.of_experts(update.b)
            b = b.reshape(len(b), -1, update.experts)[update.outputs, :, at]
        else:
            a, b = self.adapter.read(update.a), self.adapter.read(update.b)
        a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
        return (a.T, update.scale * b.T) if update.flipped else (update.scale * b, a)

    def of_experts(self, name: str) -> np.ndarray:
        """A factor of all experts, which are asked for one after the other."""
        if name not in self.held:
            self.held = {name: self.adapter.read(name)}
        return self.held[name]

    def factors(self, name: str, at: int | None = None) -> tuple[np.ndarray, np.ndarray] | None:
        """The factors of all that is added (`Checkpoint.factors`): none where DoRA scales the sum,
        or the adapter has a tensor of its own to add to.
        """
        update = self.updates.get(name)
        if update is None or update.magnitude or name in self.replaced:
            return None
        return self.products_of(name, at)


def on_base(base: Checkpoint, tuned: Checkpoint) -> Checkpoint:
    """The tuned side: an adapter added to its base, all else as it is.

    Raises
        RequestError: as `merged`, and an adapter as the base.
    """
    if isinstance(base, Adapter | Merged):
        raise refused(base.path, "an adapter as the base", "the model that it was trained on")
    return merged(base, tuned) if isinstance(tuned, Adapter) else tuned


def merged(base: Checkpoint, adapter: Adapter) -> Merged:
    """An adapter added to its base, from headers alone.

    Raises
        RequestError: it belongs to another base, or this one cannot be added to.
    """
    modules, magnitudes, whole = parts_of(adapter)
    names, updates, replaced = Names(base), {}, {}
    for module, factors in modules.items():
        if factors.keys() != {"A", "B"}:
            raise refused(
                adapter.path, f"half an update of {one_line(module)}", "lora_A and lora_B"
            )
        targets = targets_of(base, adapter, names, module, factors)
        for name, update in targets.items():
            if name in updates:
                raise refused(adapter.path, f"two updates of {one_line(name)}", "one a tensor")
            magnitude = magnitudes.get(module)
            lengths = math.prod(adapter.tensors[magnitude].shape) if magnitude else None
            outputs = base.tensors[name].shape[-1 if update.flipped else 0]
            if magnitude and (lengths != outputs or update.experts):
                label = one_line(module, limit=80)
                raise refused(adapter.path, f"{lengths:,} lengths of {label}", f"{outputs:,}")
            updates[name] = update._replace(magnitude=magnitude)
    for name, its in whole.items():
        if (target_name := names.of(name)) is None:
            raise foreign(adapter, base, f"{one_line(name, limit=80)}, which the base has not")
        replaced[target_name] = its
    tensors = base.tensors | {
        name: adapter.tensors[its]._replace(name=name) for name, its in replaced.items()
    }
    notes = [*adapter.notes, *described(base, adapter, updates, replaced)]
    rest = {"config": base.config, "aliases": base.aliases, "word": adapter.word}
    return Merged(
        adapter.path,
        adapter.files,
        tensors,
        notes,
        **rest,
        base=base,
        adapter=adapter,
        updates=updates,
        replaced=replaced,
    )


class Names:
    """A base's names as an adapter calls them: as they are, or without the model's prefixes."""

    def __init__(self, base: Checkpoint):
        self.base = base
        self.cores: dict[str, list[str]] = defaultdict(list)
        for name, its in base.cores.items():
            self.cores[its].append(name)

    def of(self, name: str) -> str | None:
        """The base's name of a tensor, if it has one that can be meant."""
        if name in self.base.tensors:
            return name
        alike = self.cores.get(core(name), ())
        return alike[0] if len(alike) == 1 else None

    def below(self, module: str) -> dict[str, str]:
        """The tensors below a module, by what their names add to its own."""
        inner = core(module) + "."
        return {
            name.removeprefix(inner).removesuffix(".weight"): names[0]
            for name, names in self.cores.items()
            if name.startswith(inner) and len(names) == 1
        }


def targets_of(
    base: Checkpoint, adapter: Adapter, names: Names, module: str, factors: dict[str, str]
) -> dict[str, Update]:
    """The tensors that an update is of: one, or the experts of a stack that was saved in pieces."""
    a, b = (adapter.tensors[factors[key]] for key in "AB")
    name = names.of(f"{module}.weight")
    if name is None:
        return targets_of_experts(base, adapter, names, module, (a, b))
    shape = base.tensors[name].shape
    inputs, outputs, rank = math.prod(a.shape[1:]), b.shape[0], a.shape[0]
    flipped = EMBEDDING in a.name or adapter.settings.get("fan_in_fan_out") is True
    expected = (inputs, outputs) if flipped else (outputs, inputs)
    fits = len(shape) > 1 and (shape[0], math.prod(shape[1:])) == expected
    if math.prod(b.shape[1:]) != rank or not fits:
        raise foreign(adapter, base, misfit(name, shape, expected))
    refuse_unaddable(base, name)
    return {name: Update(a.name, b.name, scale_of(adapter, module, rank), flipped)}


def targets_of_experts(
    base: Checkpoint, adapter: Adapter, names: Names, module: str, sides: tuple
) -> dict[str, Update]:
    """The same for a parameter with an expert a matrix (`target_parameters`), whose name the
    adapter does not say: its shape has to.
    """
    a, b = sides
    module = module.replace(".base_layer", "")
    below = names.below(module)
    parameters = {word: (name,) for word, name in below.items() if "." not in word}
    pieces = {word: name for word, name in below.items() if PIECE.fullmatch(word)}
    fits = [
        fit
        for word, (name,) in parameters.items()
        for fit in as_stack(module, word, base.tensors[name], a, b)
    ]
    fits += [fit for words in FUSED for fit in as_pieces(base, module, words, pieces, a, b)]
    label = one_line(module, limit=80)
    if not parameters and not pieces:
        raise foreign(adapter, base, f"an update of {label}, which the base has not")
    if len(fits) != 1 or b.shape[1:] != a.shape[:1]:
        raise refused(
            adapter.path,
            f"an update of {label} that fits {len(fits)} ways to what is in it",
            "one that fits one way. Or merge it with PEFT first",
        )
    parameter, updates = fits[0]
    rank = a.shape[0] // max(1, next(iter(updates.values())).experts)
    scale = scale_of(adapter, parameter, rank)
    for name in updates:
        refuse_unaddable(base, name)
    return {name: update._replace(scale=scale) for name, update in updates.items()}


def as_stack(
    module: str, word: str, stack: TensorInfo, a: TensorInfo, b: TensorInfo
) -> Iterator[tuple[str, dict[str, Update]]]:
    """The ways in which two factors fit a stack of experts, stored as outputs by inputs or as
    inputs by outputs.
    """
    if len(stack.shape) != 3 or not stack.numel or a.shape[0] % stack.shape[0]:
        return
    experts, rows, columns = stack.shape
    for flipped, outputs, inputs in ((False, rows, columns), (True, columns, rows)):
        if (a.shape[1], b.shape[0]) == (inputs, outputs):
            update = Update(a.name, b.name, 1.0, flipped, experts)
            yield f"{module}.{word}", {stack.name: update}


def as_pieces(
    base: Checkpoint,
    module: str,
    words: tuple[str, ...],
    pieces: dict[str, str],
    a: TensorInfo,
    b: TensorInfo,
) -> Iterator[tuple[str, dict[str, Update]]]:
    """The same for a base with a tensor an expert, `words` of which are one parameter in memory."""
    fused, *parts = words
    experts = sum(word.endswith(f".{parts[0]}") for word in pieces)
    its = [[pieces.get(f"{at}.{part}") for part in parts] for at in range(experts)]
    if not experts or a.shape[0] % experts or not all(all(row) for row in its):
        return
    updates = {}
    for at, row in enumerate(its):
        begin = 0
        for name in row:
            shape = base.tensors[name].shape
            if len(shape) != 2 or shape[1] != a.shape[1]:
                return
            rows = shape[0]
            outputs = slice(begin, begin + rows)
            updates[name] = Update(a.name, b.name, 1.0, False, experts, at, outputs)
            begin += rows
        if begin != b.shape[0]:
            return
    yield f"{module}.{fused}", updates


def refuse_unaddable(base: Checkpoint, name: str) -> None:
    """Refuse to add to codes that mean something with their scales alone."""
    if FORMATS[base.tensors[name].dtype].kind != "float":
        raise RequestError(
            f"open({one_line(base.path)}): found {one_line(name, limit=80)} as"
            f" {base.tensors[name].dtype}; expected a base in float32, bfloat16 or float16 to add"
            " an adapter to. Name the model before it was quantised."
        )


def described(
    base: Checkpoint, adapter: Adapter, updates: dict[str, Update], replaced: dict[str, str]
) -> Iterator[str]:
    """What is to be said of an adapter on its base."""
    kind = "DoRA" if any(update.magnitude for update in updates.values()) else "LoRA"
    ranks = sorted({adapter.tensors[u.a].shape[0] // max(1, u.experts) for u in updates.values()})
    if updates:
        rank = listing([str(rank) for rank in ranks])
        yield (
            f"{kind} adapter of rank {rank} on {len(updates)} tensors, added to the base and"
            " rounded once to its format."
        )
    if replaced:
        yield f"{len(replaced)} tensors are the adapter's own: {listing(sorted(replaced))}."
    named = adapter.settings.get("base_model_name_or_path")
    label = str(named or "").rstrip("/").rpartition("/")[2]
    if label and label not in f"{base.word}/{base.path.resolve()}":
        yield f"The adapter's configuration names {one_line(named, limit=80)} as its base."


def misfit(name: str, shape: tuple[int, ...], expected: tuple[int, int]) -> str:
    """That an update has another shape than its tensor."""
    stored, its = ("x".join(map(str, lengths)) for lengths in (shape, expected))
    return f"an update of {its} for {one_line(name, limit=80)}, which is {stored}"


def foreign(adapter: Adapter, base: Checkpoint, found: str) -> RequestError:
    """The refusal of an adapter that belongs to another base."""
    named = adapter.settings.get("base_model_name_or_path")
    whose = f", {one_line(named, limit=80)} by its configuration" if named else ""
    return refused(adapter.path, found, f"the base that it was trained on{whose}")
