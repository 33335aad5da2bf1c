"""Tables whose rows open something, the choice of a tensor, and the trail to a part."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from opdviz.quantities import QUANTITIES
from opdviz.ui import comparison, links
from opdviz.views import filters
from opdviz.views.tensor import parts_of
from opdviz.words import plain

# In one box: beyond them those of the shown tensor's layer are offered.
MOST_OPTIONS = 1_000
# Of a table that does not scroll; a higher one has this many pixels, whole rows.
MOST_ROWS, HEIGHT = 11, 422
# A click in a row opens it, wherever in the row it is.
ANYWHERE = ["single-row", "single-cell"]
# The tensor last looked at: whoever comes by the sidebar finds it again.
LAST_TENSOR = "_tensor"
# What somebody typed into the box of tensors to find some.
SEARCHED = "_tensor_searched"
# A column that is cut says nothing of those beyond it.
SIDEWAYS = "Columns that do not fit are reached by scrolling sideways."


def open_tensor(name: str) -> None:
    """In a callback: go to a tensor's page."""
    links.goto("pages/run/tensor.py", {"tensor": name})


def open_part(tensor: str, part: str) -> None:
    """In a callback: go to a part of a tensor, or with an empty `part` to its first values."""
    links.goto("pages/run/part.py", {"tensor": tensor, "part": part, "row": None, "column": None})


def trail(*, tensor: str | None = None) -> tuple[tuple[str, str, dict], ...]:
    """The way from the whole to a tensor or, with `tensor`, to a part of it; Streamlit keeps the
    choices made there.
    """
    way = (("Overview", "pages/run/overview.py", {}), ("Layers", "pages/run/layers.py", {}))
    return way if tensor is None else (*way, (tensor, "pages/run/tensor.py", {"tensor": tensor}))


def choose_tensor(where, tensors: pd.DataFrame) -> pd.Series:
    """The tensor of a page: the most moved matrix (by relative norm, as on the map) until somebody
    asks for another.

    `tensors` has one row a tensor. A list of forty thousand names is no choice: in a large model
    those of the same layer are offered, and what is typed is searched for in all.
    """
    name = st.query_params.get("tensor") or st.session_state.get(LAST_TENSOR)
    matching = tensors[tensors["name"] == name]
    if matching.empty:
        matrices = tensors[~tensors["kind"].isin(["vector", "scalar"])]
        matrices = matrices if len(matrices) else tensors
        moved = matrices.dropna(subset=["relative_norm"])
        matching = moved.nlargest(1, "relative_norm") if len(moved) else matrices.head(1)
    row = matching.iloc[0]

    def search(text: str) -> None:
        fits = searched(tensors, text)
        if len(fits) == 1:
            st.query_params["tensor"] = fits[0]
        else:
            st.session_state[SEARCHED] = text

    name = links.choose_named(
        where,
        "Tensor",
        offered(where, tensors, row),
        "tensor",
        row["name"],
        filter_mode="contains",
        on_other=search,
        help="A piece of a name, or a pattern like *.layers.3.*, and Enter search all tensors.",
    )
    if name != st.session_state.get(LAST_TENSOR):
        st.session_state.pop(SEARCHED, None)
    st.session_state[LAST_TENSOR] = name
    return tensors[tensors["name"] == name].iloc[0]


def searched(tensors: pd.DataFrame, text: str) -> list[str]:
    """The names that hold what somebody typed; where none does, those that fit it as a pattern."""
    names = tensors["name"]
    holding = names.str.contains(text, case=False, regex=False)
    return names[holding if holding.any() else filters.named(names, text)].tolist()


def offered(where, tensors: pd.DataFrame, row: pd.Series) -> list[str]:
    """The names that the box of tensors offers: what a search fits, which is said, or else all; of
    many those in the layer of the one that is shown.
    """
    text = st.session_state.get(SEARCHED)
    fits = searched(tensors, text) if text else []
    if text:
        words = plain(text, limit=80)
        caption = (
            f"{len(fits):,} names fit “{words}”: choose one."
            if fits
            else (f"None of the {len(tensors):,} names fits “{words}”.")
        )
        if len(fits) > MOST_OPTIONS:
            caption += f" The first {MOST_OPTIONS:,} are offered; a longer piece leaves fewer."
        where.caption(caption)
    if fits:
        return list(dict.fromkeys([row["name"], *fits[:MOST_OPTIONS]]))
    if len(tensors) <= MOST_OPTIONS:
        return tensors["name"].tolist()
    same_layer = tensors["layer"] == row["layer"]
    same_layer = tensors["layer"].isna() if pd.isna(row["layer"]) else same_layer.fillna(False)
    return tensors.loc[same_layer.astype(bool), "name"].tolist()


def rows_table(
    rows: pd.DataFrame, columns: list[str], key: str, on_row: Callable[[pd.Series], None]
) -> None:
    """A table whose rows open something: by a click anywhere in one, or by keyboard (arrows, then
    Shift and Space).
    """

    def chosen() -> None:
        if (at := picked(key)) is not None:
            on_row(rows.iloc[at])

    quantities_table(rows[columns], key, on_select=chosen, selection_mode=ANYWHERE)


def quantities_table(rows: pd.DataFrame, key: str, *, columns: dict | None = None, **how) -> None:
    """A table whose columns are quantities: each under its label, in its unit, with its meaning;
    `columns` says otherwise of some.
    """
    by_name = {c: column(c, whole=pd.api.types.is_integer_dtype(rows[c])) for c in rows}
    st.dataframe(
        in_percent(rows),
        hide_index=True,
        key=key,
        column_config=by_name | (columns or {}),
        height="content" if len(rows) <= MOST_ROWS else HEIGHT,
        **how,
    )


def picked(key: str) -> int | None:
    """In a callback: the row of a table in which somebody clicked; `None` where nobody did."""
    selection = st.session_state[key]["selection"]
    cells = [row for row, _ in selection["cells"]]
    return next(iter([*selection["rows"], *cells]), None)


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Shares as percentages, and a cosine, which is near 1, as its distance from there: three
    digits then tell the rows of a small update apart.
    """
    rows = rows.assign(**{name: 100 * rows[name] for name in rows if is_share(name)})
    return rows.assign(cosine=1 - rows["cosine"]) if "cosine" in rows else rows


def is_share(name: str) -> bool:
    """Whether a quantity is shown in percent."""
    return name in QUANTITIES and (QUANTITIES[name].unit == "share" or name == "relative_norm")


def part_table(chosen: comparison.Chosen, tensor: str) -> None:
    """The named parts of a tensor in a table: what the bars show, for the keyboard."""
    rows = parts_of(chosen.reader, {"tensor": tensor})
    if len(rows):
        with st.expander("Choose a part from a table"):
            columns = [
                "part",
                *(c for c in ("token", "energy", "even", "moved", "relative_norm") if c in rows),
            ]
            st.caption("A click opens a part; by keyboard arrows, then Shift and Space.")
            rows_table(rows, columns, "parts", lambda row: open_part(tensor, row["part"]))


def tensor_table(rows: pd.DataFrame, columns: list[str], sorts: list[str], key: str) -> None:
    """Tensors in pages, sorted by any quantity before they are cut; a row opens its tensor."""
    first, second, third = st.columns([3, 3, 4], vertical_alignment="bottom")
    sort = links.choose(first, "Sort by", sorts, "sort")
    order = links.switch(
        second, "Order", ("largest first", "smallest first"), "order", label_visibility="collapsed"
    )
    number = links.turn(third, filters.pages(len(rows), filters.PAGE))
    page = filters.page_of(rows, sort, number, ascending=order != "largest first")
    shown_columns = list(dict.fromkeys([*columns[:1], sort, *columns[1:]]))
    rows_table(page, shown_columns, key, lambda row: open_tensor(row["name"]))
    st.caption(
        f"{len(page):,} of {len(rows):,} tensors. A click in a row opens its tensor; by keyboard"
        f" arrows, then Shift and Space. {SIDEWAYS}"
    )


def column(name: str, *, whole: bool = False):
    """How a quantity is shown in a table."""
    q = QUANTITIES.get(name)
    if q is None:
        return st.column_config.Column(name)
    help_ = " ".join(filter(None, (q.meaning, q.formula)))
    if name == "cosine":
        return st.column_config.NumberColumn("1 - cosine", help=help_, format="%.3g")
    if is_share(name):
        return st.column_config.NumberColumn(q.label, help=help_, format="%.3g %%")
    if q.unit:
        return st.column_config.NumberColumn(
            q.label, help=help_, format="localized" if whole or q.unit == "count" else "%.3g"
        )
    return st.column_config.TextColumn(q.label, help=help_)
