"""Axes: ticks that people read, modules in the order of a layer, numbers in their own unit."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.quantities import QUANTITIES
from opdviz.words import number, percent

BLOCK_ORDER = (
    *("embedding", "projector", "attention", "mixer", "ffn"),
    *("router", "norm", "other", "head"),
)
# Pieces of module names as a layer uses them, in every family of names that is read.
MODULE_ORDER = (
    *("qkv", "query", "q_proj", "key", "k_proj", "value", "v_proj", "o_proj", "attention.output"),
    *("gate", "up_proj", "intermediate", "fc1", "c_fc", "down_proj", "output", "fc2"),
)
# Ticks of a logarithmic axis by its length in decades: short axes need more than powers of ten.
STEPS = (
    (0.8, (1, 1.5, 2, 3, 4, 5, 6, 8)),
    (2.2, (1, 2, 5)),
    (3.0, (1, 3)),
    (math.inf, (1,)),
)
FRACTIONS = {-1: "½", -2: "¼", -3: "⅛"}
MOST_RATIOS = 8  # ticks of an axis of ratios, these octaves apart
RATIO_STEPS = (1, 2, 5)
# The largest of some values beside the smallest: beyond, no number of decimals serves both.
FAR_APART = 20.0
LARGE = 1e4  # numbers from here on stand without decimals
MOST_DIGITS = 5
LONGEST_LABEL = 28  # characters: longer names leave no room for the figure
LETTER = 7.0  # pixels of a tick's letter, on average
QUARTER = 0.25  # octaves: the width of a bin of sizes
EDGE = 1e-3  # of a tick's value: one that rounding puts just outside of the axis still belongs


def powers(low: float, high: float) -> tuple[list[float], list[str]]:
    """Places and labels of ticks between two powers of ten.

    They stand at 1, 2, 5 times powers of ten, more on short axes, thinned to powers on long ones.

    >>> powers(-1, 1)[1]
    ['0.1', '0.2', '0.5', '1', '2', '5', '10']
    """
    steps = next(steps for longest, steps in STEPS if high - low <= longest)
    least, most = 10.0**low * (1 - EDGE), 10.0**high * (1 + EDGE)
    exponents = range(int(low) - 2, int(high) + 3)
    ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
    places = [tick for tick in ticks if least <= tick <= most]
    return places, [number(place) for place in places]


def logarithmic(low: float, high: float) -> dict:
    """A logarithmic axis between two powers of ten."""
    places, labels = powers(low, high)
    return {"type": "log", "range": [low, high], "tickvals": places, "ticktext": labels}


def ratios(low: float, high: float) -> dict:
    """Ticks of an axis of log2 of ratios to chance, as ratios; its ends say where they stand for
    all beyond them too.

    >>> ratios(-3, 1)["ticktext"], ratios(0, theme.FARTHEST)["ticktext"]
    (['⅛', '¼', '½', '1', '2'], ['1', '4', '16', '64', '256', '≥1,024'])
    """
    step = next(step for step in RATIO_STEPS if high - low <= step * MOST_RATIOS)
    first = math.ceil(low / step) * step
    places = list(range(first, math.floor(high) + 1, step))
    return {"tickvals": places, "ticktext": [ratio(place) for place in places]}


def ratio(log2: int) -> str:
    """A power of two as people write it."""
    end = {theme.FARTHEST: "≥", -theme.FARTHEST: "≤"}.get(log2, "")
    below = FRACTIONS.get(log2) or f"1/{2**-log2:,}"
    return end + (below if log2 < 0 else f"{2**log2:,}")


def label_room(labels: Sequence[str]) -> int:
    """Pixels that the longest of some tick labels takes, and a little air."""
    return round(LETTER * max((len(label) for label in labels), default=0)) + 16


def index_axis(r: int) -> dict:
    """A logarithmic axis of positions from 1 to r."""
    return logarithmic(0, float(np.log10(max(r, 2))))


def on_octaves(figure: go.Figure, top: float) -> go.Figure:
    """Axes of what moved over what was predicted, by octave of the weight, with the line of 1."""
    marks.chance_line(figure, y=1.0)
    figure.update_xaxes(title="octave: floor(log2 |base weight|)", dtick=1)
    return figure.update_yaxes(title="moved / predicted", range=[-0.04, top])


def on_modules(figure: go.Figure, modules: Sequence[str]) -> go.Figure:
    """The same figure with a vertical axis of modules, first at the top, and room for their
    names.
    """
    labels = [axis_label(module) for module in modules]
    figure.update_layout(margin={"l": label_room(labels)})
    return figure.update_yaxes(
        tickvals=list(range(len(modules))), ticktext=labels, range=[len(modules) - 0.5, -0.5]
    )


def module_order(placed: pd.DataFrame) -> list[str]:
    """Modules by block, then in the order in which a layer uses them."""
    blocks = placed.groupby("module")["block"].first()

    def place(module: str) -> tuple:
        positions = (at for at, piece in enumerate(MODULE_ORDER) if piece in module)
        return BLOCK_ORDER.index(blocks[module]), next(positions, len(MODULE_ORDER)), module

    return sorted(blocks.index, key=place)


def axis_label(text: object) -> str:
    """A name as an axis label: literal, and short enough to leave room; its ends tell most.

    >>> len(axis_label("a" * 500)), axis_label("attention.output.dense")
    (28, 'attention.output.dense')
    """
    text, longest = str(text), LONGEST_LABEL
    if len(text) > longest:
        text = f"{text[:10]}…{text[11 - longest :]}"
    return theme.literal(text)


def value_label(value: float, quantity: str) -> str:
    """A value of a quantity in its own unit; empty where there is none."""
    if not np.isfinite(value):
        return ""
    if is_share(quantity):
        return percent(value, 2 if value < 0.1 else 3)
    return number(value)


def value_labels(values: np.ndarray, quantity: str) -> Callable[[float], str]:
    """How a figure writes values like these: with as many digits as tell them apart, and the same
    decimals all over the figure. Values of very different size have significant digits instead.

    >>> label = value_labels(np.array([0.000302, 0.000304, 0.0003]), "relative_norm")
    >>> label(0.000302), label(0.0003), label(float("nan"))
    ('0.03020 %', '0.03000 %', '')
    """
    unit = 100.0 if is_share(quantity) else 1.0
    sizes = np.abs(values[np.isfinite(values)].astype(float)) * unit
    sizes = sizes[sizes > 0]
    if sizes.size < 2 or sizes.max() > FAR_APART * sizes.min() or sizes.max() >= LARGE:
        return lambda value: value_label(value, quantity)
    largest, smallest, spread = sizes.max(), sizes.min(), sizes.max() - sizes.min()
    telling = decimals(spread, 2) if spread else decimals(largest, 3)
    places = max(0, decimals(smallest, 2), min(telling, decimals(largest, MOST_DIGITS)))

    def label(value: float) -> str:
        text = f"{value * unit:.{places}f}" if np.isfinite(value) else ""
        if not text or float(text) == 0 or (unit > 1 and float(text) == unit != value * unit):
            return value_label(value, quantity)  # never rounded to nothing or to all
        return f"{text} %" if unit > 1 else text

    return label


def decimals(value: float, digits: int) -> int:
    """The decimals with which a positive value has so many significant digits.

    >>> decimals(0.0302, 3), decimals(54.1, 3), decimals(1234.0, 2)
    (4, 1, -2)
    """
    return digits - 1 - math.floor(math.log10(value))


def is_share(quantity: str) -> bool:
    """Whether a quantity is read in percent."""
    return QUANTITIES[quantity].unit == "share" or quantity == "relative_norm"
