"""How large weights and changes are: shares of coordinates by size, beside a Gaussian's."""

import math

import pandas as pd


def beside_gaussian(bins: pd.DataFrame, side: str, rms: float) -> pd.DataFrame:
    """The bins of |W| or |D| above zero: low, high, `share` of all coordinates, and `chance`.

    `side` is base or delta, `rms` its root mean square: chance is a Gaussian's of the same norm.
    """
    rows = bins[bins["of"] == side]
    total = float(rows["count"].sum()) or 1.0
    rows = rows[rows["high"] > 0].astype({"low": float, "high": float})
    chance = rows["low"].map(lambda low: gaussian_above(low, rms))
    chance -= rows["high"].map(lambda high: gaussian_above(high, rms))
    return rows.assign(share=rows["count"] / total, chance=chance)[
        ["low", "high", "share", "chance"]
    ]


def gaussian_above(size: float, rms: float) -> float:
    """P(|x| > size) for a Gaussian of a root mean square.

    >>> round(gaussian_above(3.0, 1.0), 4)
    0.0027
    """
    return math.erfc(size / (rms * math.sqrt(2))) if rms > 0 else 0.0
