"""Where it moved: any quantity by layer and module, any two against each other, every tensor in a
table.
"""

import streamlit as st

from opdviz.figures import layers as maps
from opdviz.quantities import CHANCE_OF
from opdviz.ui import comparison, figure, links, notes, tables
from opdviz.views import filters, layers
from opdviz.words import plain


def ranges(text: str) -> bool:
    """Whether a text names ranges of numbers."""
    return filters.numbers(text) is not None


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
    if len(towers := layers.towers(tensors)) > 1:
        links.choose(st, "Tower", towers, "tower")
    for key in ("block", "module"):
        options = [filters.ANY, *sorted(tensors[key].dropna().unique())]
        if len(options) > 2:
            links.choose(st, key.capitalize(), options, key)
    links.text(
        st,
        "Layers",
        "layers",
        fits=ranges,
        expected="numbers like 3-7 or 0, 5-8",
        placeholder="3-7, 12",
    )
    if tensors["expert"].notna().any():
        links.text(
            st, "Experts", "expert", fits=ranges, expected="numbers like 3-7", placeholder="0-15"
        )
    links.choose(st, "Kind", filters.KINDS, "kinds")
if quantity in CHANCE_OF:
    links.flag(
        st, "Show over chance", "over", help="log2 of the value over what a blind update would give"
    )
if limits == layers.LIMITS[2]:
    low, high = maps.whole_range(filters.fitting(tensors, links.state()), quantity) or (0.0, 1.0)
    left, right, _ = st.columns([3, 3, 6])
    links.number(
        left, "From", "low", low=-1e30, high=1e30, default=float(f"{low:.3g}"), format="%.3g"
    )
    links.number(
        right, "To", "high", low=-1e30, high=1e30, default=float(f"{high:.3g}"), format="%.3g"
    )
state = links.state()
rows = filters.fitting(tensors, state)
if rows.empty:
    st.info("No tensor fits these filters. Take one off, or search for a shorter piece of a name.")
    links.end()
if said := filters.described(state):
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{len(rows):,} of {len(tensors):,} tensors: {plain(said)}")
        st.button("Show all", key="clear", type="tertiary", on_click=links.clear,
                  args=(("tower", "block", "module", "layers", "expert", "kinds", "tensors"),))  # fmt: skip
if rows["layer"].notna().any():
    figure.show("layers", chosen, on_click=open_cell, hint="Click a cell to open it.")
if rows["layer"].isna().any():
    figure.show("strip", chosen, on_click=open_mark, hint="Click a mark to open its tensor.")
notes.notes(chosen, rows)

st.subheader("Two quantities against each other", anchor=False)
first, second, _ = st.columns([3, 3, 6])
links.choose(first, "Across", mappable, "x")
upward = sorted(mappable, key=lambda q: q != "stable_rank")
links.choose(second, "Upward", upward, "y")
figure.show("scatter", chosen, on_click=open_mark, hint="Click a mark to open its tensor.")

st.subheader("Every tensor", anchor=False)
listed = ("relative_norm", "sparsity_exact", "sparsity_absolute", "stable_rank", "cosine")
columns = [
    "name",
    "layer",
    "module",
    "block",
    quantity,
    "shape",
    *(c for c in listed if c in rows and c != quantity),
]
tables.tensor_table(
    rows, columns, [quantity, *(q for q in mappable if q != quantity), "name"], "tensor_rows"
)
