"""Weights stored as codes that mean something with tables and scales alone: recognised by the names
of what stands beside them, and refused with what to do instead.

Their codes are integers of bits: read as numbers they would be misread, and differences between
them are no update. float8 with its scale is read (`opened`).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from opdviz.checkpoint.records import TensorInfo
from opdviz.errors import RequestError, one_line


class Scheme(NamedTuple):
    """A way to quantise: what it is called, the endings of names that only it has, and those that
    it has not.
    """

    label: str
    endings: tuple[str, ...]
    without: tuple[str, ...] = ()


ORIGINAL = "Name the model that it was made from"
DEQUANTISED = f"{ORIGINAL}, or save it after `model.dequantize()` of transformers"
SCHEMES = {
    Scheme("GPTQ", (".qweight", ".g_idx")): ORIGINAL,
    Scheme("AWQ", (".qweight", ".qzeros", ".scales"), (".g_idx",)): ORIGINAL,
    Scheme("bitsandbytes in 4 bits", (".absmax", ".quant_map")): DEQUANTISED,
    Scheme("bitsandbytes in 8 bits", (".SCB",)): DEQUANTISED,
    Scheme("MXFP4", ("_blocks", "_scales")): DEQUANTISED,
    Scheme("packed compressed-tensors", (".weight_packed",)): DEQUANTISED,
    Scheme("HQQ", (".W_q",)): ORIGINAL,
    Scheme("AQLM", (".codebooks", ".codes")): ORIGINAL,
}
# Number types of safetensors that hold scales and elements of MX formats, by their bits.
MX = re.compile(r"F8_E8M0|F[46]_E\dM\d|F4|F6")
CODES = {"int8", "uint8", "int16", "int32", "int64"}


def refuse(path: Path, tensors: dict[str, TensorInfo]) -> None:
    """Refuse a checkpoint whose weights are codes.

    Raises
        RequestError: they are, with what they are and what to name instead.
    """
    coded = [name for name, info in tensors.items() if info.dtype in CODES]
    if not coded:
        return
    # Beside them stand their tables, of any type.
    ends = {ending for ending in endings() if any(name.endswith(ending) for name in tensors)}
    for scheme, advice in SCHEMES.items():
        if ends.issuperset(scheme.endings) and ends.isdisjoint(scheme.without):
            first = next((n for n in coded if n.endswith(scheme.endings[0])), coded[0])
            label = one_line(first, limit=80)
            raise refused(path, f"{scheme.label}: {label} is codes of a table", advice)


def endings() -> Iterable[str]:
    """Every ending that tells a scheme."""
    return {ending for scheme in SCHEMES for ending in (*scheme.endings, *scheme.without)}


def refused(path: Path, found: str, advice: str = DEQUANTISED) -> RequestError:
    """The one-line error for weights that are codes."""
    return RequestError(
        f"open({one_line(path)}): found {found}; expected the weights themselves. {advice}."
    )
