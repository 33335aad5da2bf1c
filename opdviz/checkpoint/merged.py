"""A base with a LoRA adapter added: `W + s B A`, stored as the base is.

Added in float64 and rounded once. PEFT's own merge rounds the product first where the base has 16
bits, and may then differ by a step of the format.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from opdviz.checkpoint.adapter import Adapter, parts_of, refused
from opdviz.checkpoint.formats import codes_in, rounded
from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.records import Source, TensorInfo
from opdviz.checkpoint.targets import Names, Update, foreign, targets_of
from opdviz.errors import one_line
from opdviz.naming import parse
from opdviz.words import listing

ELEMENTS = 1 << 22  # that are added at a time


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
        if name not in self.updates:
            return self.before(name, first, last)
        return joined(self.sums(name, first, last))

    def read_raw(
        self, name: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, TensorInfo]:
        """The same rows as merging stores them, bits where numpy has no such number."""
        if name not in self.updates:
            side = self.adapter if name in self.replaced else self.base
            return side.read_raw(self.replaced.get(name, name), first, last)
        info = self.tensors[name]
        blocks = (
            (rows, stored_as(info.dtype, part)) for rows, part in self.sums(name, first, last)
        )
        return joined(blocks), info

    def before(self, name: str, first: int, last: int | None) -> np.ndarray:
        """Rows of a tensor to which an update may be added: the base's, or the adapter's own."""
        side = self.adapter if name in self.replaced else self.base
        return side.read(self.replaced.get(name, name), first, last)

    def sums(self, name: str, first: int, last: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Base and product of some rows, added in float64 and rounded, a few rows at a time; with
        each how many rows there will be.
        """
        update, info = self.updates[name], self.tensors[name]
        last = info.shape[0] if last is None else last
        if first == last:
            yield 0, self.before(name, first, last)
            return
        stacked = update.experts and update.expert is None
        left, right = (None, None) if stacked else self.products_of(name)
        size = 1 if stacked else max(1, ELEMENTS // max(1, right.shape[1]))
        for low in range(first, last, size):
            block = self.before(name, low, min(low + size, last))
            if stacked:
                left, right = self.products_of(name, low)
                total = block + left @ right
            else:
                rows = slice(low, low + len(block))
                total = block.reshape(len(block), -1) + left[rows] @ right
                total = (total * self.gains_of(name, total, rows)).reshape(block.shape)
            yield last - first, rounded(total, info.dtype).astype(block.dtype)

    def gains_of(self, name: str, total: np.ndarray, rows: slice) -> np.ndarray | float:
        """What DoRA multiplies some rows of the sum with; 1 where it does not."""
        update = self.updates[name]
        if not update.magnitude:
            return 1.0
        if update.flipped:
            return self.column_gains(name)
        with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros has no length
            return (self.magnitude(update)[rows] / np.linalg.norm(total, axis=1))[:, None]

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


def joined(blocks: Iterator[tuple[int, np.ndarray]]) -> np.ndarray:
    """Blocks of rows as one array of as many rows as they say: the blocks are not all held beside
    it.
    """
    whole, filled = None, 0
    for rows, block in blocks:
        whole = np.empty((rows, *block.shape[1:]), block.dtype) if whole is None else whole
        whole[filled : filled + len(block)] = block
        filled += len(block)
    return whole


def stored_as(form: str, values: np.ndarray) -> np.ndarray:
    """Promoted values of a format as its file has them."""
    return codes_in(form, values, "float32") if form == "bfloat16" else values.astype(form)


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
        target_name = names.of(name)
        # A base that ties its head has no tensor of it; the adapter's is then the tuned's alone.
        if target_name is None and parse(name).block != "head":
            raise foreign(adapter, base, f"{one_line(name, limit=80)}, which the base has not")
        replaced[target_name or name] = its
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
