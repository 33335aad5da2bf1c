"""A LoRA adapter of PEFT, as its folder holds it: factors by module, and what its configuration
says of them. `merged` adds it to a base.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from opdviz.checkpoint.bounded import Unreadable, from_json, read_bytes
from opdviz.checkpoint.formats import FORMATS
from opdviz.checkpoint.opened import Checkpoint
from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line

CONFIG, STEM = "adapter_config.json", "adapter_model"
LONGEST = 4_000_000  # bytes of a configuration
PREFIX = "base_model.model."
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<factor>[AB])(?:\.weight)?")
MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(?:\.weight)?")
# Starts that take what they put into the adapter out of the base, which is then another one.
REBASED = ("pissa", "olora", "corda", "loftq", "lora_ga")
# What makes of an adapter something else than a sum of base and product.
OTHER_SUMS = (
    *("layer_replication", "alora_invocation_tokens", "arrow_config", "use_qalora"),
    *("kasa_config", "use_bdlora", "monteclora_config"),
)
# A pattern is somebody's text and is run: without groups it takes no time to speak of.
PATTERN = re.compile(r"[\w.\\^$|\[\]*-]{1,400}")
MOST_STARS = 4


@dataclass
class Adapter(Checkpoint):
    """The files of an adapter, which say nothing without a base."""

    settings: dict = field(default_factory=dict)


def opened(path: Path, weights: Path, tensors: dict[str, TensorInfo], notes: list[str]) -> Adapter:
    """The adapter whose weights are in a file, with its configuration beside them.

    Raises
        RequestError: it is no LoRA, or one that is no sum of its base and a product.
    """
    config = weights.with_name(CONFIG)
    try:
        settings = from_json(read_bytes(config, LONGEST))
    except FileNotFoundError:
        raise refused(path, f"no {CONFIG}", "one beside the adapter's weights") from None
    except Unreadable as why:
        raise refused(path, f"{why} in {CONFIG}", "the configuration of an adapter") from None
    kind = settings.get("peft_type") if isinstance(settings, dict) else None
    if kind != "LORA":
        raise refused(path, f"an adapter of type {one_line(kind, limit=40)}", "LORA")
    start = str(settings.get("init_lora_weights", "")).lower()
    if start.startswith(REBASED):
        started = (
            f"an adapter that began as {one_line(start, limit=40)}, with a base changed for it"
        )
        raise refused(path, started, "one beside its base as it was")
    for key in OTHER_SUMS:
        if settings.get(key):
            raise refused(path, f"an adapter with {key}", "one that adds to the weights")
    return Adapter(path, [weights, config], tensors, notes, settings=settings)


def parts_of(adapter: Adapter) -> tuple[dict[str, dict], dict[str, str], dict[str, str]]:
    """By module its factors, by module its magnitudes, and by name what the adapter has whole; each
    as called in the adapter's file.
    """
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    magnitudes, whole = {}, {}
    for name, info in adapter.tensors.items():
        plain = name.removeprefix(PREFIX)
        if match := FACTOR.fullmatch(plain):
            if len(info.shape) < 2 or not info.numel or FORMATS[info.dtype].kind != "float":
                stored = f"{'x'.join(map(str, info.shape)) or 'a scalar'} of {info.dtype}"
                label = one_line(plain, limit=80)
                raise refused(adapter.path, f"{label} as {stored}", "a matrix of floats")
            modules[match["module"]][match["factor"]] = name
        elif match := MAGNITUDE.fullmatch(plain):
            magnitudes[match["module"]] = name
        elif "lora_" in plain or "token_adapter" in plain:
            raise refused(adapter.path, f"{one_line(plain, limit=80)}", "lora_A and lora_B alone")
        else:
            whole[plain.replace(".base_layer.", ".").replace(".modules_to_save.", ".")] = name
    return modules, magnitudes, whole


def scale_of(adapter: Adapter, module: str, rank: int) -> float:
    """What the product is multiplied by: alpha over the rank, or over its root (rsLoRA:
    arXiv 2312.03732).
    """
    settings = adapter.settings
    alpha = by_pattern(adapter, "alpha_pattern", module, settings.get("lora_alpha"))
    stated = by_pattern(adapter, "rank_pattern", module, settings.get("r"))
    if type(stated) is not int or stated != rank:
        raise refused(
            adapter.path,
            f"rank {rank} of {one_line(module, limit=80)}",
            f"{one_line(stated, limit=20)} by its configuration",
        )
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise refused(adapter.path, f"lora_alpha {one_line(alpha, limit=20)}", "a number")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") is True else rank)


def by_pattern(adapter: Adapter, key: str, module: str, default: object) -> object:
    """What a configuration says of a module: the first pattern that fits its end, else the rest's.

    Raises
        RequestError: a pattern that is not run here.
    """
    patterns = adapter.settings.get(key) or {}
    if not isinstance(patterns, dict):
        raise refused(adapter.path, f"a {type(patterns).__name__} as {key}", "an object")
    for pattern, value in patterns.items():
        if not PATTERN.fullmatch(pattern) or pattern.count("*") > MOST_STARS:
            label = one_line(pattern, limit=60)
            raise refused(adapter.path, f"{key} {label}", "names of modules, or simple patterns")
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error:
            raise refused(adapter.path, f"{key} {one_line(pattern)}", "a pattern") from None
    return default


def refused(path: Path, found: str, expected: str) -> RequestError:
    """The one-line error for an adapter that cannot be added."""
    return RequestError(f"open({one_line(path)}): found {found}; expected {expected}.")
