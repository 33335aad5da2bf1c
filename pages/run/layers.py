"""Where it moved: any quantity by layer and module, any two against each other, every tensor in a
table.
"""

import streamlit as st

from opdviz.figures import layers as maps
from opdviz.quantities import CHANCE_OF
from opdviz.ui import comparison, figure, links, notes, tables
from opdviz.ui.filters import choose_filters
from opdviz.views import filters, layers
from opdviz.words import plain


def open_cell(data: list) -> None:
    """In a callback: the tensor of a cell; of a cell that holds several, the map of these."""
    name, layer, _, module, *_ = data
    if name:
        tables.open_tensor(name)
    else:
        st.session_state.update({"module": module, "layers": str(layer)})


def open_mark(data: list) -> None:
    """In a callback: the tensor of a mark."""
    tables.open_tensor(data[0])


chosen = comparison.need()
comparison.heading("Where it moved", chosen, trail=(("Overview", "pages/run/overview.py", {}),))
tensors = comparison.need_rows(chosen.summary("by_tensor"), "measurement")
mappable = layers.mappable(tensors)
first, second, third, fourth = st.columns([3, 4, 3, 2], vertical_alignment="bottom")
quantity = links.choose(first, "Quantity", mappable, "quantity")
links.text(second, "Tensors", "tensors", placeholder="a piece of a name, or *.layers.*.down_proj.*")
limits = links.choose(third, "Colour limits", layers.LIMITS, "limits")
with fourth.popover("Filters", icon=":material/filter_list:", width="stretch"):
    choose_filters(tensors)
line = st.container(horizontal=True, gap="medium", vertical_alignment="bottom")
if quantity in CHANCE_OF:
    links.flag(
        line, "Show over chance", "over", help="The value over what a blind update would give"
    )
if layers.several_in_a_cell(tensors):
    links.switch(line, "Several tensors in a cell", (maps.MEAN, maps.EXTREME), "cells")
if limits == layers.LIMITS[2]:
    low, high = maps.whole_range(filters.fitting(tensors, links.state()), quantity) or (0.0, 1.0)
    left, right, _ = st.columns([3, 3, 6])
    for place, label, key, limit in ((left, "From", "low", low), (right, "To", "high", high)):
        links.real(place, label, key, default=float(f"{limit:.3g}"))
state = links.state()
rows = filters.fitting(tensors, state)
if said := filters.described(state):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(rows):,} of {len(tensors):,} tensors: {plain(said)}")
        st.button(
            "Show all",
            key="clear",
            type="tertiary",
            on_click=links.clear,
            args=(filters.KEYS,),
        )
if rows.empty:
    st.info("No tensor fits these filters. Take one off, or search for a shorter piece of a name.")
    links.end()
if rows["layer"].notna().any():
    figure.show("layers", chosen, on_click=open_cell, hint="Click a cell to open it.")
if rows["layer"].isna().any():
    figure.show("strip", chosen, on_click=open_mark, hint="Click a mark to open its tensor.")
notes.notes(chosen, rows)

st.header("Two quantities against each other", anchor=False)
first, second, _ = st.columns([3, 3, 6])
links.choose(first, "Across", mappable, "x")
upward = sorted(mappable, key=lambda q: q != "stable_rank")
links.choose(second, "Upward", upward, "y")
figure.show("scatter", chosen, on_click=open_mark, hint="Click a mark to open its tensor.")

st.header("Every tensor", anchor=False)
listed = ("relative_norm", "sparsity_exact", "sparsity_absolute", "stable_rank", "cosine")
others = [column for column in listed if column in rows and column != quantity]
columns = ["name", "layer", "module", "block", quantity, "shape", *others]
sorts = [quantity, *(q for q in mappable if q != quantity), "name"]
tables.tensor_table(rows, columns, sorts, "tensor_rows")
