"""The choice of tensors by tower, block, module, layers, experts and kind."""

import pandas as pd
import streamlit as st

from opdviz.ui import links
from opdviz.views import filters, layers


def choose_filters(tensors: pd.DataFrame) -> None:
    """A field for every property in which the tensors differ."""
    if len(towers := layers.towers(tensors)) > 1:
        links.choose(st, "Tower", towers, "tower")
    for key in ("block", "module"):
        options = [filters.ANY, *sorted(tensors[key].dropna().unique())]
        if len(options) > 2:
            links.choose(st, key.capitalize(), options, key)
    choose_range("Layers", "layers", "numbers like 3-7 or 0, 5-8", "3-7, 12")
    if tensors["expert"].notna().any():
        choose_range("Experts", "expert", "numbers like 3-7", "0-15")
    links.choose(st, "Kind", filters.KINDS, "kinds")


def choose_range(label: str, key: str, expected: str, example: str) -> None:
    """A field for ranges of numbers."""
    links.text(
        st,
        label,
        key,
        fits=lambda text: filters.numbers(text) is not None,
        expected=expected,
        placeholder=example,
    )
