"""Number formats: how stored bytes become numbers, and which numbers a format can hold.

A format's grid is what decides whether a small update is visible at all, so rounding and step sizes
live here too.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Format:
    """A storage format: its name, bytes an element, explicit mantissa bits, least exponent of a
    normal number.
    """

    name: str
    size: int
    mantissa: int
    least: int
    kind: str = "float"


FORMATS = {
    f.name: f
    for f in (
        Format("float64", 8, 52, -1022),
        Format("float32", 4, 23, -126),
        Format("float16", 2, 10, -14),
        Format("bfloat16", 2, 7, -126),
        Format("float8_e4m3", 1, 3, -6, "float8"),
        Format("float8_e5m2", 1, 2, -14, "float8"),
        Format("int64", 8, 0, 0, "integer"),
        Format("int32", 4, 0, 0, "integer"),
        Format("int16", 2, 0, 0, "integer"),
        Format("int8", 1, 0, 0, "integer"),
        Format("uint8", 1, 0, 0, "integer"),
        Format("uint16", 2, 0, 0, "integer"),
        Format("uint32", 4, 0, 0, "integer"),
        Format("uint64", 8, 0, 0, "integer"),
        Format("bool", 1, 0, 0, "integer"),
    )
}


def promote(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Stored elements as float32, float64 (from float64), or the integers as they are.

    `raw` holds the elements' own numpy type, or uint16 / uint8 bits where numpy has none (bfloat16,
    float8).
    """
    if dtype == "bfloat16":
        bits = raw.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype in ("float8_e4m3", "float8_e5m2"):
        return float8_values(dtype)[raw]
    if dtype == "float16":
        return raw.astype(np.float32)
    return raw


class Promoted:
    """A tensor of 16-bit numbers that become float32 where they are asked for: half the memory of
    the array that it stands for.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, raw: np.ndarray, form: str):
        self.raw, self.form = raw, form
        self.shape, self.size, self.ndim = raw.shape, raw.size, raw.ndim

    def __getitem__(self, key) -> np.ndarray:
        return promote(np.ascontiguousarray(self.raw[key]), self.form)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(promote(self.raw, self.form), dtype=dtype)

    @classmethod
    def of_codes(cls, codes: np.ndarray, form: str) -> "Promoted":
        """The numbers of some stored bits."""
        return cls(codes.view(np.float16) if form == "float16" else codes, form)

    @property
    def codes(self) -> np.ndarray:
        """The stored bits, as whole numbers without a sign."""
        return self.raw.view(np.uint16)

    @property
    def is_finite(self) -> np.ndarray:
        """Which of them are numbers, and finite ones."""
        # All bits of the exponent are set in what is none.
        exponent = np.uint16((1 << 15) - (1 << FORMATS[self.form].mantissa))
        return self.codes & exponent != exponent

    def part(self, key) -> "Promoted":
        """Some of them, as stored."""
        return Promoted(self.raw[key], self.form)

    def reshape(self, *shape) -> "Promoted":
        """The same numbers in another shape."""
        return Promoted(self.raw.reshape(*shape), self.form)

    @property
    def T(self) -> "Promoted":
        """Transposed."""
        return Promoted(self.raw.T, self.form)


def float8_values(dtype: str) -> np.ndarray:
    """The 256 values of a float8 format (e4m3fn has no infinity and one NaN a sign; e5m2 follows
    IEEE).
    """
    codes = np.arange(256)
    form = FORMATS[dtype]
    exponent_bits = 7 - form.mantissa
    mantissa = codes & ((1 << form.mantissa) - 1)
    exponent = (codes >> form.mantissa) & ((1 << exponent_bits) - 1)
    fraction = np.where(exponent > 0, 1.0, 0.0) + mantissa / (1 << form.mantissa)
    value = np.ldexp(fraction, np.maximum(exponent, 1) + form.least - 1)
    if dtype == "float8_e5m2":
        value[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    else:
        value[(exponent == 15) & (mantissa == 7)] = np.nan
    return np.where(codes & 128, -value, value).astype(np.float32)


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest bfloat16, ties to even, as float32. NaN stays NaN."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    rounded = bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))
    rounded &= np.uint32(0xFFFF0000)
    values = rounded.view(np.float32)
    missing = np.isnan(x)
    return np.where(missing, np.float32(np.nan), values) if missing.any() else values


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """Values rounded to a float format, in the array's own wide type (float32 or float64)."""
    with np.errstate(over="ignore"):  # what a format does not reach is its infinity
        if dtype == "bfloat16":
            return round_bfloat16(x).astype(x.dtype, copy=False)
        if dtype == "float16":
            return x.astype(np.float16).astype(x.dtype)
        return x.astype(np.float32).astype(x.dtype) if dtype == "float32" else x


def codes_in(target: str, raw: np.ndarray, dtype: str) -> np.ndarray:
    """Stored elements of a format (`raw`, as `promote` takes them) as the bits, whole numbers
    without a sign, that a target format stores them in; those of the target itself are not touched.

    float8 is a target of its own elements alone.

    >>> codes_in("bfloat16", np.float32([1.0, -2.5]), "float32").tolist()
    [16256, 49184]
    """
    if dtype != target:
        values = rounded(promote(raw, dtype), target)
        if target == "bfloat16":
            return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        raw = values.astype(target)
    return np.ascontiguousarray(raw).view(f"uint{8 * FORMATS[target].size}")


def step(x: np.ndarray, dtype: str) -> np.ndarray:
    """The grid step (ulp) of a format at each value, as float64: 2^(exponent - mantissa bits)."""
    form = FORMATS[dtype]
    exponent = np.frexp(np.abs(x).astype(np.float64))[1] - 1
    exponent = np.where(x == 0, form.least, np.maximum(exponent, form.least))
    return np.ldexp(1.0, exponent - form.mantissa)
