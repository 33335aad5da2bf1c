"""What a comparison will take, from headers alone: seconds and bytes."""

from collections import Counter
from collections.abc import Iterable
from types import ModuleType

from opdviz import pairing
from opdviz.checkpoint import Checkpoint
from opdviz.chunks import KEPT
from opdviz.engine.devices import gpus
from opdviz.measures import FIRST_PASS, MEASURES, SECOND_PASS
from opdviz.pairing import Pair

CACHED = 2048  # directions whose Gram matrix, of 32 MB, a large processor's last cache holds
STARTING = 1.5  # interpreters and imports
# Of the seconds of a run, what one takes whose base others have worked on.
ON_A_KNOWN_BASE = 0.65
INTERPRETER = 150_000_000  # bytes of a process with the engine loaded


def cost(pair: Pair, modules: Iterable[ModuleType]) -> float:
    """Seconds of one thread that a pair takes under some measures.

    Fitted on matrices of 0.1 to 17 million elements in bf16 and in float32, which is counted twice.
    """
    seconds, modules = 0.0, tuple(modules)
    twice = len(pair.precisions) - 1
    if any(m in FIRST_PASS for m in modules):
        seconds += 0.005 + 0.003 * twice + (1.8e-8 + 5.4e-8 * twice) * pair.numel
    if pair.is_matrix and any(m in SECOND_PASS for m in modules):
        r, long = min(pair.shape), max(pair.shape)
        seconds += 0.022 + 0.021 * twice + (9.5e-8 + 1.6e-8 * twice) * pair.numel
        # A Gram matrix beyond a processor's last cache is reduced at the speed of memory.
        cube = 4.2e-10 if r <= CACHED else 7.1e-10
        seconds += 7.6e-11 * long * r * r + cube * r**3
    return seconds


def on_one_base(seconds: Iterable[float]) -> float:
    """Seconds of several runs on one base as one job, from those of each by itself.

    >>> round(on_one_base([10.0, 10.0]), 6), on_one_base([7.0])
    (16.5, 7.0)
    """
    first, *others = seconds
    return first + ON_A_KNOWN_BASE * sum(others)


def memory(pairs: list[Pair], workers: int) -> int:
    """Bytes that a run needs at most: interpreters, and the largest tensors that can be open at
    once.
    """
    largest = sorted(pairs, key=lambda p: p.numel)[-workers:]
    return INTERPRETER * (workers + 1) + sum(map(held, largest))


def held(pair: Pair) -> int:
    """Bytes that a worker holds of a pair at most: measured on tensors of 3 to 155 million
    elements.
    """
    # Of small ones everything is kept for the next who asks, of large ones little more than the
    # sides.
    small = min(pair.numel, 2 * KEPT)
    beyond = 18 if len(pair.precisions) > 1 else 11
    return 24 * small + beyond * (pair.numel - small)


def preview(base: Checkpoint, tuned: Checkpoint, workers: int, *, pace: float = 1.0) -> dict:
    """What a comparison would take, from headers alone: the `check` command's facts.

    `pace` is how much longer than the estimate this machine takes.
    """
    matching = pairing.match(base, tuned)
    dtypes: dict[str, int] = {}
    for pair in matching.pairs:
        label = (
            pair.base_dtype
            if pair.base_dtype == pair.tuned_dtype
            else f"{pair.base_dtype} -> {pair.tuned_dtype}"
        )
        dtypes[label] = dtypes.get(label, 0) + 1
    # Shape and precisions alone make the cost.
    alike = Counter((p.shape, p.precisions) for p in matching.pairs)
    examples = {(p.shape, p.precisions): p for p in matching.pairs}

    def seconds(modules: tuple[ModuleType, ...]) -> float:
        costs = {kind: cost(pair, modules) for kind, pair in examples.items()}
        total = sum(count * costs[kind] for kind, count in alike.items())
        return STARTING + pace * max(total / workers, *costs.values(), 0.0)

    return {
        "pairs": len(matching.pairs),
        "parameters": matching.parameters,
        "unmatched": matching.unmatched,
        "rewrites": matching.rewrites,
        "dtypes": dtypes,
        "seconds": seconds(MEASURES),
        "first_pass_seconds": seconds(FIRST_PASS),
        "bytes": memory(matching.pairs, workers),
        "gpus": gpus(),
        "notes": matching.base.notes + matching.tuned.notes,
        "same": base.path.resolve() == tuned.path.resolve(),
    }
