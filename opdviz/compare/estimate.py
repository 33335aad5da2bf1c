"""What a comparison will take, from headers alone: seconds and bytes."""

from collections import Counter
from collections.abc import Iterable
from types import ModuleType

from opdviz import pairing
from opdviz.checkpoint import Checkpoint
from opdviz.measures import FIRST_PASS, MEASURES, SECOND_PASS
from opdviz.pairing import Pair

STARTING = 1.5  # interpreters and imports


def cost(pair: Pair, modules: Iterable[ModuleType]) -> float:
    """Seconds of one thread that a pair takes under some measures: fitted on matrices of 0.1 to 12
    million elements.
    """
    seconds, modules = 0.0, tuple(modules)
    if any(m in FIRST_PASS for m in modules):
        seconds += 0.011 + 9.5e-8 * pair.numel
    if pair.is_matrix and any(m in SECOND_PASS for m in modules):
        r, long = min(pair.shape), max(pair.shape)
        seconds += 0.03 + 1.1e-7 * pair.numel + 1.4e-10 * long * r * r + 5.8e-10 * r**3
    return seconds


def memory(pairs: list[Pair], workers: int) -> int:
    """Bytes that a run needs at most: interpreters, and the largest tensors that can be open at
    once.
    """
    largest = sorted((p.numel for p in pairs), reverse=True)[:workers]
    return 110_000_000 * (workers + 1) + sum(20 * n for n in largest)


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
    alike = Counter(p.shape for p in matching.pairs)  # the shape alone makes the cost
    costs = {p.shape: cost(p, MEASURES) for p in {p.shape: p for p in matching.pairs}.values()}
    total = sum(count * costs[shape] for shape, count in alike.items())
    return {
        "pairs": len(matching.pairs),
        "parameters": matching.parameters,
        "unmatched": matching.unmatched,
        "rewrites": matching.rewrites,
        "dtypes": dtypes,
        "seconds": STARTING + pace * max(total / workers, *costs.values(), 0.0),
        "bytes": memory(matching.pairs, workers),
        "notes": base.notes + tuned.notes,
        "same": base.path.resolve() == tuned.path.resolve(),
    }
