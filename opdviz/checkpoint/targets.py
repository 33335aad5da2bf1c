"""Which tensors of a base the updates of an adapter are of, by their names and shapes."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from opdviz.checkpoint.adapter import Adapter, refused, scale_of
from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line
from opdviz.naming import ALONE, PARTS, core

EMBEDDING = ".lora_embedding_"
# A tensor of one expert below the module of all of them.
PIECE = re.compile(r"[0-9]{1,6}\.\w+")
# What is one parameter of all experts in memory, and the tensors an expert that files have of it.
FUSED = (
    *(("gate_up_proj", *words) for words in PARTS["gate_up_proj"]),
    *(("down_proj", word) for word in ALONE["down_proj"]),
)


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


def misfit(name: str, shape: tuple[int, ...], expected: tuple[int, int]) -> str:
    """That an update has another shape than its tensor."""
    stored, its = ("x".join(map(str, lengths)) for lengths in (shape, expected))
    return f"an update of {its} for {one_line(name, limit=80)}, which is {stored}"


def foreign(adapter: Adapter, base: Checkpoint, found: str) -> RequestError:
    """The refusal of an adapter that belongs to another base."""
    named = adapter.settings.get("base_model_name_or_path")
    whose = f", {one_line(named, limit=80)} by its configuration" if named else ""
    return refused(adapter.path, found, f"the base that it was trained on{whose}")
