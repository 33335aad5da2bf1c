"""The visible-update mask of a comparison: which coordinates training moved, as packed bits in one
safetensors file.

One entry a tensor: its bits row by row, eight a byte, most significant first (`numpy.packbits`).
The header's metadata holds the shapes, the base's fingerprints, the comparison's key, the threshold
and the density.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from opdviz import checkpoint, files, fingerprint, pairing
from opdviz.checkpoint import safetensors
from opdviz.checkpoint.formats import FORMATS, round_bfloat16
from opdviz.checkpoint.records import TensorInfo
from opdviz.definitions import SIXTEEN_BITS
from opdviz.engine import sources
from opdviz.errors import RequestError, one_line
from opdviz.pairing import Matching, Pair
from opdviz.store.store import Stored

KIND = "opdviz.mask"
VERSION = "1"


@dataclass(frozen=True)
class MaskedTensor:
    """One tensor of a mask: its shape and where its bits stand."""

    shape: tuple[int, ...]
    bits: TensorInfo


@dataclass(frozen=True)
class Mask:
    """An open mask file."""

    path: Path
    key: str
    base: list[str]
    threshold: float
    density: float
    tensors: dict[str, MaskedTensor] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.path.name

    def read(self, name: str) -> np.ndarray:
        """One tensor's mask as booleans in its shape."""
        shape = self.tensors[name].shape
        return self.part(name, 0, math.prod(shape)).reshape(shape)

    def part(self, name: str, first: int, count: int) -> np.ndarray:
        """So many coordinates of a tensor's mask from the first on, flat."""
        start, end = first // 8, -(-(first + count) // 8)
        packed = safetensors.read(self.tensors[name].bits, start, end)
        bits = np.unpackbits(packed, count=first % 8 + count)
        return bits[first % 8 :].astype(bool)


def seen(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values as a checkpoint of 16 bits shows them."""
    with np.errstate(over="ignore"):
        return values if dtype in SIXTEEN_BITS else round_bfloat16(values)


def deltas(matching: Matching) -> Iterator[tuple[str, np.ndarray]]:
    """The size of every coordinate's change as a bf16 checkpoint shows it, tensor by tensor as they
    are comparison.

    Integer tensors are left out; they are no weights.
    """
    for name, pair in weights(matching).items():
        yield name, delta_of(matching, name, pair)


def weights(matching: Matching) -> dict[str, Pair]:
    """The tensors of floats that both have, by the base's name, each with one of its pairs."""
    return {
        pair.stored_name(pair.name): pair
        for pair in matching.pairs
        if FORMATS[pair.base_dtype].kind != "integer"
    }


def delta_of(matching: Matching, name: str, pair: Pair) -> np.ndarray:
    """The size of every coordinate's change in one tensor as a bf16 checkpoint shows it."""
    sides = (matching.base.read(name), matching.tuned.read(pair.stored_name(pair.tuned_name)))
    dtypes = (pair.base_dtype, pair.tuned_dtype)
    base, tuned = (seen(x, dtype) for x, dtype in zip(sides, dtypes, strict=True))
    with np.errstate(invalid="ignore"):  # Inf - Inf is NaN, which is beyond no threshold
        delta = np.abs(tuned.astype(np.float64) - base.astype(np.float64))
    return delta.reshape(matching.base.tensors[name].shape)


def threshold_for(matching: Matching, density: float) -> float:
    """The threshold whose mask holds about `density` of all coordinates: the nearest that 16 bits
    of |D| can tell apart.

    Raises
        RequestError: fewer coordinates moved at all.
    """
    counts = np.zeros(1 << 16, dtype=np.int64)
    for _, delta in deltas(matching):
        classes = (
            np.nan_to_num(delta, nan=0.0, posinf=np.inf).astype(np.float32).view(np.uint32) >> 16
        )
        counts += np.bincount(classes.ravel(), minlength=1 << 16)
    above = counts[::-1].cumsum()[::-1]  # how many reach at least this class
    if above[1] < density * above[0] or not above[1]:
        moved = above[1] / above[0] if above[0] else 0.0
        raise RequestError(
            f"density {density:g}: only {moved:.4f} of the coordinates moved; ask for less."
        )
    classes = np.flatnonzero(above)[1:]
    nearest = classes[np.argmin(np.abs(above[classes] / above[0] - density))]
    return float(
        np.nextafter((np.uint32(nearest) << np.uint32(16)).view(np.float32), np.float32(0))
    )


def keep(
    path: Path, bits: Iterator[tuple[str, np.ndarray]], **facts: str | float | list[str]
) -> None:
    """Write a mask file from each tensor's booleans; `facts` are key, base and threshold.

    Raises
        MachineError: it cannot be written; nothing half-written stays.
    """
    packed, shapes, ones, total = {}, {}, 0, 0
    for name, mask in bits:
        if name == "__metadata__":
            raise RequestError(
                "subnetwork: a tensor named __metadata__ has no place in a safetensors file."
            )
        packed[name], shapes[name] = np.packbits(mask), mask.shape
        ones, total = ones + int(mask.sum()), total + mask.size
    if not total:
        raise RequestError(
            "subnetwork: found no weights in these checkpoints; expected tensors of floats."
        )
    facts |= {"density": ones / total, "shapes": shapes}
    text = {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}
    files.write(path, save(packed, metadata={"kind": KIND, "version": VERSION, **text}))


def visible(matching: Matching, threshold: float) -> Iterator[tuple[str, np.ndarray]]:
    """Which coordinates changed by more than `threshold`, tensor by tensor."""
    for name, delta in deltas(matching):
        yield name, delta > threshold


def visible_of(matching: Matching, threshold: float) -> dict[str, Callable[[], np.ndarray]]:
    """The same by name, each read when it is called for."""

    def reading(name: str, pair: Pair) -> Callable[[], np.ndarray]:
        return lambda: delta_of(matching, name, pair) > threshold

    return {name: reading(name, pair) for name, pair in weights(matching).items()}


def random_like(mask: Mask, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Random masks of the same density, tensor by tensor."""
    return drawn_like(((name, mask.read(name)) for name in mask.tensors), seed)


def drawn_like(
    bits: Iterable[tuple[str, np.ndarray]], seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """As many coordinates of each tensor as some masks hold, drawn at random."""
    draw = np.random.default_rng(seed)
    for name, mask in bits:
        flat = np.zeros(mask.size, dtype=bool)
        flat[draw.choice(flat.size, size=int(mask.sum()), replace=False)] = True
        yield name, flat.reshape(mask.shape)


def open_mask(path: Path) -> Mask:
    """Open a mask file; only its header is read.

    Raises
        RequestError: no such file, not a mask, or a damaged one.
    """
    if not path.is_file():
        raise RequestError(
            f"mask {one_line(path)}: no such file; `opdviz subnetwork KEY --out FILE` writes one."
        )
    bits = {info.name: info for info in safetensors.infos(path)}
    facts = safetensors.metadata(path)
    try:
        if (facts["kind"], facts["version"]) != (KIND, VERSION):
            raise ValueError
        shapes = {
            name: tuple(int(n) for n in shape)
            for name, shape in json.loads(facts["shapes"]).items()
        }
        tensors = {name: MaskedTensor(shape, bits[name]) for name, shape in shapes.items()}
        whole = all(fits(tensor) for tensor in tensors.values())
        key, base = str(facts["key"]), [str(f) for f in json.loads(facts["base"])]
        threshold, density = float(facts["threshold"]), float(facts["density"])
        if (
            not whole
            or set(tensors) != set(bits)
            or not (0 <= threshold < math.inf and 0 <= density <= 1)
        ):
            raise ValueError
        return Mask(path, key, base, threshold, density, tensors)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise RequestError(
            f"mask {one_line(path)}: found no mask of opdviz in it; expected a file of `opdviz"
            " subnetwork KEY --out FILE`."
        ) from None


def fits(tensor: MaskedTensor) -> bool:
    """Whether a tensor's bits are as many as its shape has coordinates."""
    sound = all(n >= 0 for n in tensor.shape) and tensor.bits.dtype == "uint8"
    return sound and tensor.bits.shape == (-(-math.prod(tensor.shape) // 8),)


def matching_of(base: str | Path, tuned: str | Path) -> Matching:
    """Two checkpoints by path, matched."""
    return pairing.match(checkpoint.open(base), checkpoint.open(tuned), look=True)


def matching_of_comparison(comparison: Stored) -> Matching:
    """The checkpoints of a comparison, matched, after a look whether they are still what was
    compared.

    Raises
        RequestError: they are gone or others by now.
        CheckFailed: the comparison's manifest is damaged.
    """
    return sources.reopen(comparison, one_line(comparison.name, limit=60))


def prints(side: checkpoint.Checkpoint) -> list[str]:
    """The fingerprints of a checkpoint's files."""
    return [fingerprint.of_file(f) for f in side.files]
