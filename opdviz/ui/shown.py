"""How figures and tables stand on a page: the sentence, the figure, and one click away definition, data and pin."""

import io
import re
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from opdviz.figures import theme
from opdviz.quantities import QUANTITIES
from opdviz.ui import links, sharing
from opdviz.ui.chosen import Chosen, read_only
from opdviz.views import filters
from opdviz.views.tensor import parts_of
from opdviz.words import plain

PICTURES = ("SVG", "PNG")
MOST_OPTIONS = 1_000


def reading(sentence: str) -> None:
    """The one sentence that says what a figure shows."""
    st.markdown(sentence)


def show(name: str, chosen: Chosen, *, on_click: Callable[[list], None] | None = None, hint: str = "") -> None:
    """A view of the chosen comparison in the page's state; a click hands a mark's custom data to `on_click`, as `hint` says."""
    state = links.state()
    view = chosen.view(name, state)
    if view.figure is None:
        st.info(f"**{plain(view.title)}**  \n{view.reading}")
        return
    reading(f"{view.reading} {hint}".strip())
    stem = "_".join(filter(None, (slug(chosen.manifest["name"]), name, slug(state.get("tensor", "")))))
    chart(view.figure, name, on_click, stem=stem)
    with below(name, view.data, view.terms, stem=stem):
        if not read_only() and st.button(
            "Pin", key=f"pin_{name}", type="tertiary", icon=":material/keep:", help="Keep it on the board"
        ):
            sharing.pin_dialog(chosen, name, state, view.title)


def slug(text: object) -> str:
    """A text as a piece of a file's name.

    >>> slug("lab opd"), slug("model.layers.0.mlp.up_proj.weight")
    ('lab-opd', 'model.layers.0.mlp.up_proj.weight')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(text)).strip("-.")[:80]


def chart(figure: go.Figure, key: str, on_click: Callable[[list], None] | None = None, *, stem: str = "") -> None:
    """A figure with Plotly's own toolbar, which saves it as SVG or PNG under a name that says what it is of."""

    def clicked() -> None:
        points = st.session_state[f"figure_{key}"]["selection"]["points"]
        if points and points[0].get("customdata") is not None:
            on_click(points[0]["customdata"])

    picture = str(st.session_state.get("picture") or PICTURES[0]).lower()
    saved = {"format": picture, "filename": f"opdviz_{stem or key}", "scale": 2 if picture == "png" else 1}
    st.plotly_chart(
        figure, key=f"figure_{key}", theme="streamlit", on_select=clicked if on_click else "ignore", selection_mode="points",
        alt=theme.alt(figure),
        config={"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
                "toImageButtonOptions": saved},
    )  # fmt: skip


def below(key: str, data: pd.DataFrame, terms: tuple[str, ...], *, stem: str = ""):
    """The line under a figure: its definitions and its data; the place for more."""
    line = st.container(horizontal=True, gap="small")
    with line.popover("Definition", type="tertiary", width="content"):
        for term in terms:
            definition(term)
    with line.popover("Save", type="tertiary", width="content"):
        st.caption("The data behind the figure.")
        both = st.container(horizontal=True)
        both.download_button(
            "CSV", lambda: data.to_csv(index=False).encode(), f"{stem or key}.csv", on_click="ignore", key=f"csv_{key}"
        )
        both.download_button(
            "Parquet", lambda: parquet(data), f"{stem or key}.parquet", on_click="ignore", key=f"parquet_{key}"
        )
        picture = str(st.session_state.get("picture") or PICTURES[0])
        st.caption(
            f"The figure itself: the camera in its corner saves {picture}; change that at the foot of the sidebar."
        )
    return line


def figure(made: go.Figure, key: str, data: pd.DataFrame, terms: tuple[str, ...]) -> None:
    """A figure that is no view of a comparison, with its definitions and data."""
    chart(made, key)
    below(key, data, terms)


def choose_picture() -> None:
    """What the camera in a figure's corner saves."""
    st.segmented_control(
        "Camera saves", PICTURES, default=PICTURES[0], key="picture", persist_state="session", required=True
    )


def parquet(data: pd.DataFrame) -> bytes:
    """A frame as a Parquet file."""
    buffer = io.BytesIO()
    data.to_parquet(buffer, index=False)
    return buffer.getvalue()


def definition(name: str, *, column: bool = False) -> None:
    """A quantity's meaning, formula, chance, pitfall and source; with `column` also its name in the tables."""
    q = QUANTITIES[name]
    title = f"**{plain(q.label)}**" + (f" [{plain(q.name)}]" if column else "")
    lines = [f"{title}: {plain(q.meaning)}"]
    lines += [f"{label}: {plain(text)}" for label, text in
              (("Formula", q.formula), ("Chance", q.chance), ("Careful", q.pitfall), ("Source", q.source)) if text]  # fmt: skip
    st.markdown("  \n".join(lines))


def open_tensor(name: str) -> None:
    """In a callback: go to a tensor's page."""
    links.goto("pages/run/tensor.py", {"tensor": name})


def open_part(tensor: str, part: str) -> None:
    """In a callback: go to a part of a tensor, or with an empty `part` to its first values."""
    links.goto("pages/run/part.py", {"tensor": tensor, "part": part, "row": None, "column": None})


def trail(*, tensor: str | None = None) -> tuple[tuple[str, str, dict], ...]:
    """The way from the whole to a tensor or, with `tensor`, to a part of it; Streamlit keeps the choices made there."""
    way = (("Overview", "pages/run/overview.py", {}), ("Layers", "pages/run/layers.py", {}))
    return way if tensor is None else (*way, (tensor, "pages/run/tensor.py", {"tensor": tensor}))


def choose_tensor(where, tensors: pd.DataFrame) -> pd.Series:
    """The tensor of a page: the most moved matrix (by relative norm, as on the map) until somebody asks for another.

    `tensors` has one row a tensor. A list of forty thousand names is no choice: in a large model those of the same layer are
    offered.
    """
    asked = st.session_state.get("tensor") or st.query_params.get("tensor")
    found = tensors[tensors["name"] == asked]
    if found.empty:
        matrices = tensors[~tensors["kind"].isin(["vector", "scalar"])]
        matrices = matrices if len(matrices) else tensors
        moved = matrices.dropna(subset=["relative_norm"])
        found = moved.nlargest(1, "relative_norm") if len(moved) else matrices.head(1)
    row = found.iloc[0]
    if len(tensors) > MOST_OPTIONS:
        same = tensors["layer"].isna() if pd.isna(row["layer"]) else (tensors["layer"] == row["layer"]).fillna(False)
        options = tensors.loc[same.astype(bool), "name"].tolist()
    else:
        options = tensors["name"].tolist()
    name = links.choose_named(where, "Tensor", options, "tensor", row["name"], filter_mode="contains")
    return tensors[tensors["name"] == name].iloc[0]


def table(rows: pd.DataFrame, columns: list[str], key: str, on_row: Callable[[pd.Series], None]) -> None:
    """A table whose rows open something, by mouse or by keyboard (arrows, then Shift and Space)."""

    def chosen() -> None:
        picked = st.session_state[key]["selection"]["rows"]
        if picked:
            on_row(rows.iloc[picked[0]])

    st.dataframe(
        rows[columns], hide_index=True, key=key, on_select=chosen, selection_mode="single-row",
        column_config={c: column(c, whole=pd.api.types.is_integer_dtype(rows[c])) for c in columns},
        height=min(420, 40 + 35 * max(1, len(rows))),
    )  # fmt: skip


def part_table(chosen: Chosen, tensor: str) -> None:
    """The named parts of a tensor in a table: what the bars show, for the keyboard."""
    rows = parts_of(chosen.run, {"tensor": tensor})
    if len(rows):
        with st.expander("Choose a part from a table"):
            columns = ["part", *(c for c in ("token", "energy", "even", "moved", "relative_norm") if c in rows)]
            st.caption("A row opens its part: by its box, or by keyboard with arrows, then Shift and Space.")
            table(rows, columns, "parts", lambda row: open_part(tensor, row["part"]))


def tensor_table(rows: pd.DataFrame, columns: list[str], sorts: list[str], key: str) -> None:
    """Tensors in pages, sorted by any quantity before they are cut; a row opens its tensor."""
    first, second, third = st.columns([3, 2, 5], vertical_alignment="bottom")
    sort = links.choose(first, "Sort by", sorts, "sort")
    order = links.switch(second, "Order", ("largest first", "smallest first"), "order", label_visibility="collapsed")
    number = links.turn(third, filters.pages(len(rows), filters.PAGE))
    shown = filters.page_of(rows, sort, number, ascending=order != "largest first")
    shown_columns = list(dict.fromkeys([*columns[:1], sort, *columns[1:]]))
    table(shown, shown_columns, key, lambda row: open_tensor(row["name"]))
    st.caption(
        f"{len(shown):,} of {len(rows):,} tensors. A row opens its tensor: by its box, or "
        "by keyboard with arrows, then Shift and Space."
    )


def column(name: str, *, whole: bool = False):
    """How a quantity is shown in a table."""
    q = QUANTITIES.get(name)
    if q is None:
        return None
    help_ = " ".join(filter(None, (q.meaning, q.formula)))
    if q.unit == "share" or name == "relative_norm":
        return st.column_config.NumberColumn(q.label, help=help_, format="percent")
    if q.unit:
        return st.column_config.NumberColumn(
            q.label, help=help_, format="localized" if whole or q.unit == "count" else "%.4g"
        )
    return st.column_config.TextColumn(q.label, help=help_)
