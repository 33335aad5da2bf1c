"""Where two checkpoints of one model are laid out differently, the rules that cut them alike: fused
and split projections, experts in a stack or a tensor each, vocabularies of other lengths.

A rule is made of what the names and shapes of both sides say, and of the fused side's own
configuration where the order of rows depends on the architecture. What these leave open is listed
and not guessed.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from opdviz import naming
from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.records import TensorInfo
from opdviz.checkpoint.rewrites import EXPERT, Rewritten, Rule, numberless, presented, reduced
from opdviz.naming import ALONE, PARTS, core

CONTAINERS = ("self_attn", "attention", "attn", "self_attention", "attention.self")
# Names under which architectures keep different orders of rows.
UNCLEAR = {"query_key_value", "wqkv"}
# By model type: rows come head by head (query, key and value of one after another's), group by
# group (the queries that share a key, the key, the value), or all queries first.
BY_HEAD = {"gpt_neox", "gpt_neox_japanese", "bloom"}
BY_GROUP = {"internlm2"}
IN_TURN = {"chatglm", "glm", "qwen", "baichuan", "phi3"}
# Names in which a tensor can be that another layout has in pieces.
FUSIBLE = re.compile(rf"(?:^|\.)(?:{'|'.join(map(re.escape, PARTS))}|experts)(?:\.|$)")
# How the reason of a vocabulary's left-over rows begins.
ROWS = "rows"
ALTERNATING = {"gpt_oss"}  # of gate and up a row each in turn


class Aligned(NamedTuple):
    """Both sides cut alike, what was rewritten, the rows that one side alone has, and by side the
    tensors that could not be cut, with the reason.
    """

    base: Checkpoint
    tuned: Checkpoint
    rewrites: list[dict]
    rows: list[tuple[str, TensorInfo, str]]
    undecided: dict[str, dict[str, str]]


def aligned(base: Checkpoint, tuned: Checkpoint) -> Aligned:
    """Both sides under the rules that make their tensors pair."""
    (split_base, of_base), (split_tuned, of_tuned) = split(base, tuned), split(tuned, base)
    # What is split has other shapes: rows are looked at afterwards.
    base_rules = tuple(shortened(split_base, split_tuned))
    tuned_rules = (*turned(split_tuned, split_base), *shortened(split_tuned, split_base))
    sides = {"base": further(split_base, base_rules), "tuned": further(split_tuned, tuned_rules)}
    rewrites = [row for label, side in sides.items() for row in rewritten(side, label)]
    rows = [*left_out(split_base, base_rules, "base"), *left_out(split_tuned, tuned_rules, "tuned")]
    return Aligned(
        sides["base"], sides["tuned"], rewrites, rows, {"base": of_base, "tuned": of_tuned}
    )


def split(side: Checkpoint, other: Checkpoint) -> tuple[Checkpoint, dict[str, str]]:
    """A side whose fused tensors are cut as the other's are, and what of it stays open."""
    if not side.tensors.keys() - other.tensors.keys():
        return side, {}
    rules, undecided = splits(side, other)
    return presented(side, rules), undecided


def further(side: Checkpoint, rules: tuple[Rule, ...]) -> Checkpoint:
    """A side under more rules."""
    rules = tuple(dict.fromkeys(rules))
    if isinstance(side, Rewritten) and rules:
        return presented(side.inner, (*side.rules, *rules))
    return presented(side, rules)


def left_out(
    side: Checkpoint, rules: tuple[Rule, ...], label: str
) -> Iterator[tuple[str, TensorInfo, str]]:
    """The tensors of which a side has more rows, with the reason that is listed."""
    for rule in dict.fromkeys(rules):
        for name, info in side.tensors.items() if rule.keep else ():
            if rule.fits(name):
                last = info.shape[0] - 1
                yield label, info, f"{ROWS} {rule.keep:,} to {last:,} only in {label}"


def rewritten(side: Checkpoint, label: str) -> Iterator[dict]:
    """A row of `rewrites` for every stored tensor that is cut."""
    if not isinstance(side, Rewritten):
        return
    pieces: dict[str, list[str]] = defaultdict(list)
    for name, cut in side.cuts.items():
        pieces[cut.stored].append(name)
    for stored, names in pieces.items():
        rule = next(rule for rule in side.rules if rule.fits(stored))
        count = f"{len(names)} tensors" if len(names) > 1 else f"{names[0]}"
        yield {
            "name": stored,
            "tuned_name": names[0],
            "rule": rule.kind,
            "detail": f"{label} {detail_of(rule, side, names, count)}",
        }


def detail_of(rule: Rule, side: Rewritten, names: list[str], count: str) -> str:
    """What a rule did to one stored tensor, in words."""
    if rule.kind == "rows":
        stored = side.inner.tensors[side.stored(names[0])]
        return f"cut to the first {rule.keep:,} of {stored.shape[0]:,} rows"
    if rule.kind == "transpose":
        return "with its last two axes in the other order"
    order = {0: "alternating", 1: "one after the other"}.get(
        rule.groups, f"in {rule.groups} groups"
    )
    words = f"as {count}"
    if len(rule.tails) > 1:
        words += f", rows {' : '.join(map(str, rule.shares))} {order}"
    return words + (", transposed" if rule.flipped else "")


def splits(fused: Checkpoint, other: Checkpoint) -> tuple[tuple[Rule, ...], dict[str, str]]:
    """The rules that cut one side's tensors as the other's are, and by name why others stay."""
    others = {other.cores[name]: info for name, info in other.tensors.items()}
    rules: list[Rule] = []
    ways: list[list[Rule]] = []
    for name, info in fused.tensors.items():
        if not FUSIBLE.search(name) or name in other.tensors or fused.cores[name] in others:
            continue
        if any(rule.fits(name) for rule in (*rules, *(possible[0] for possible in ways))):
            continue
        possible = list(stack_rules(info, others, fused.config))
        possible = possible or list(fused_rules(info, others, fused.config))
        if len(possible) == 1 and possible[0].groups >= 0:
            rules += possible
        elif possible:
            ways.append(possible)
    # A stack of squares may be stored either way; another of the same model tells.
    orders = {rule.flipped for rule in rules if rule.stacked}
    undecided: dict[str, str] = {}
    for possible in ways:
        fits = [rule for rule in possible if rule.groups >= 0 and {rule.flipped} == orders]
        if len(fits) == 1:
            rules += fits
            continue
        order = (
            "inputs or outputs first"
            if len(possible) > 1
            else "which rows are whose: no model_type and heads that are known, in its config.json"
        )
        reason = f"could be split as the other side is, but nothing says {order}"
        undecided |= {name: reason for name in fused.tensors if possible[0].fits(name)}
    return tuple(rules), undecided


def fused_rules(info: TensorInfo, others: dict[str, TensorInfo], config: dict) -> Iterator[Rule]:
    """The rule that splits a fused projection into the parts that the other side has."""
    segments = info.name.split(".")
    at = next((i for i, word in enumerate(segments) if word in PARTS), None)
    if at is None or not 1 <= len(info.shape) <= 2:
        return
    start, suffix = segments[: at - 1], segments[at + 1 :]
    its = segments[at - 1] if at else ""
    for container, words in product(dict.fromkeys((its, *CONTAINERS)), PARTS[segments[at]]):
        tails = tuple(
            ".".join([*([container] if container else []), word, *suffix]) for word in words
        )
        parts = [others.get(core(".".join([*start, tail]))) for tail in tails]
        if all(parts) and all(part.shape[1:] == parts[0].shape[1:] for part in parts):
            counts = [part.shape[0] for part in parts]
            rule = ruled(info.name, segments[max(0, at - 1) :], tails)._replace(
                shares=reduced(counts)
            )
            if info.shape == (sum(counts), *parts[0].shape[1:]):
                yield ordered(rule, segments[at], config)
            elif info.shape == (parts[0].shape[-1], sum(counts)) and len(parts[0].shape) == 2:
                yield rule._replace(flipped=True)
            return


def ruled(name: str, end: list[str], tails: tuple[str, ...]) -> Rule:
    """The rule for a tensor, and its like in other layers: the last segments of its name, and what
    stands for them.
    """
    tail = ".".join(end)
    return Rule(numberless(name.removesuffix(tail)), tail, tails)


def ordered(rule: Rule, word: str, config: dict) -> Rule:
    """A rule with the order in which an architecture keeps the rows; `groups` -1 where that is
    open.
    """
    config = naming.text_config(config)
    kind = config.get("model_type")
    if word not in UNCLEAR:
        return rule
    heads = naming.bounded(
        config.get("num_attention_heads", config.get("n_head")), naming.MOST_HEADS
    )
    shared = naming.bounded(
        config.get("num_kv_heads", config.get("num_key_value_heads", heads)), naming.MOST_HEADS
    )
    if kind == "falcon":
        new, one = (config.get(key) is True for key in ("new_decoder_architecture", "multi_query"))
        kind = "internlm2" if new else "chatglm" if one else "bloom"
    if kind in IN_TURN:
        return rule
    if kind in BY_HEAD and heads and len(set(rule.shares)) == 1:
        return rule._replace(groups=heads)
    if kind in BY_GROUP and shared:
        return rule._replace(groups=shared)
    return rule._replace(groups=-1)


def stack_rules(info: TensorInfo, others: dict[str, TensorInfo], config: dict) -> Iterator[Rule]:
    """The rules, one or for squares two, that cut a stack into a tensor an expert."""
    segments = info.name.removesuffix(".weight").split(".")
    if len(info.shape) != 3 or len(segments) < 3 or segments[-2] != "experts":
        return
    count, word = info.shape[0], segments[-1]
    start = segments[:-3]
    names = [(one,) for one in ALONE.get(word, (word,))] if word not in PARTS else PARTS[word]
    for words in names:
        tails = tuple(f"{segments[-3]}.experts.{EXPERT}.{one}.weight" for one in words)
        ends = [
            others.get(core(".".join([*start, tail.replace(EXPERT, str(number))])))
            for tail in tails
            for number in (0, count - 1)
        ]
        if (
            not all(ends)
            or core(".".join([*start, tails[0].replace(EXPERT, str(count))])) in others
        ):
            continue
        parts = ends[::2]
        counts, inputs = [part.shape[0] for part in parts], parts[0].shape[-1]
        kind = naming.text_config(config).get("model_type")
        groups = 0 if len(words) > 1 and kind in ALTERNATING else 1
        rule = ruled(info.name, info.name.split(".")[len(start) :], tails)
        rule = rule._replace(shares=reduced(counts), groups=groups, stacked=True)
        if info.shape[1:] == (sum(counts), inputs):
            yield rule
        if info.shape[1:] == (inputs, sum(counts)):
            yield rule._replace(flipped=True)
        return


def turned(side: Checkpoint, other: Checkpoint) -> Iterator[Rule]:
    """The rules that turn one side's stacks of experts as the other's are."""
    for name, info in side.tensors.items():
        its = other.tensors.get(name)
        if its is not None and len(info.shape) == 3 and naming.is_stack(name):
            swapped = (info.shape[0], info.shape[2], info.shape[1])
            if info.shape != its.shape == swapped:
                tail = ".".join(name.split(".")[-3:])
                yield ruled(name, name.split(".")[-3:], (tail,))._replace(flipped=True)


def shortened(side: Checkpoint, other: Checkpoint) -> Iterator[Rule]:
    """The rules that leave the rows of a vocabulary which the other side has, too."""
    if (
        not any(
            info.shape != its.shape
            for name, info in side.tensors.items()
            if (its := other.tensors.get(name)) is not None
        )
        and side.tensors.keys() == other.tensors.keys()
    ):
        return
    others = {other.cores[name]: info for name, info in other.tensors.items()}
    for name, info in side.tensors.items():
        its = other.tensors.get(name) or others.get(side.cores[name])
        if its is None or info.shape == its.shape or not info.shape:
            continue
        longer = info.shape[0] > its.shape[0] > 0 and info.shape[1:] == its.shape[1:]
        if longer and naming.parse(name).block in ("embedding", "head"):
            yield Rule("", name, (name,), keep=its.shape[0])
