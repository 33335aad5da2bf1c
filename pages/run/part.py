"""A part of a tensor - a head, a band, a row - and the values themselves, a pixel a number."""

import streamlit as st

from opdviz import slices
from opdviz.errors import OpdvizError
from opdviz.ui import comparison, figure, links, server, tables
from opdviz.views import tensor
from opdviz.words import format_name, number, percent, plain

SIZES = (128, 64, 256, 512)

chosen = comparison.need()
tensors = comparison.need_rows(chosen.summary("by_tensor"), "measurement").sort_values("name")
heading = st.container()
first, second = st.columns([3, 2], vertical_alignment="bottom")
row = tables.choose_tensor(first, tensors)
name, reader = row["name"], chosen.reader
shape = (int(row["rows"]), int(row["columns"])) if row.notna()["rows"] else (1, int(row["numel"]))
heads = tensor.heads_of(reader, {"tensor": name})
examples = "head 3, rows 0-63, column 7" if heads else "rows 0-63, column 7, row 1234"
text = links.text(
    second,
    "Part",
    "part",
    placeholder=examples,
    fits=lambda t: not t or slices.parse(t, shape, heads) is not None,
    expected=f"a part like {examples}, inside {shape[0]:,} x {shape[1]:,}",
    on_change=links.clear,
    args=(("row", "column"),),
)
part = slices.parse(text, shape, heads) if text else None
title = plain(part.label) if part else "Values"
with heading:
    comparison.heading(
        title, chosen, row["shape"], row["base_dtype"], trail=tables.trail(tensor=name)
    )
if part:
    found = (
        slices.measured(reader.rows("profile", name), part)
        if len(reader.rows("profile", name))
        else None
    )
    rows = reader.rows("rows", name)
    known = (
        rows[rows["row"] == part.low]
        if len(rows) and part.axis == "row" and part.high - part.low == 1
        else rows.iloc[:0]
    )
    if found and found["energy"] is not None:
        moved = found["moved"] if found["moved_bfloat16"] is None else found["moved_bfloat16"]
        figure.reading(
            f"**It holds {percent(found['energy'])} of the tensor's update; an even spread"
            f" {percent(found['even'])}.** {percent(moved)} of it moved, as"
            f" {format_name(row['counted_as'])}."
        )
    elif len(known):
        one = known.iloc[0]
        token = f" (token {plain(repr(one['token']))})" if one.notna()["token"] else ""
        figure.reading(
            f"**This row{token} moved by {percent(one['relative_norm'])} of its size; the whole"
            f" tensor by {percent(row['relative_norm'])}.** Cosine of change and row"
            f" {number(one['cosine'])}: below 0 it shrank."
        )
    else:
        figure.reading(
            "Shares are kept for whole bands and heads, and rows for the most moved ones. Its"
            " values can be read."
        )
first, second, third, _ = st.columns([2, 2, 2, 4], vertical_alignment="bottom")
size = links.choose(third, "Size", SIZES, "size")
start = {part.axis: part.low} if part else {}
at = [
    links.number(
        where, label, key, low=0, high=shape[axis] - 1, default=start.get(key, 0), step=size
    )
    for where, label, key, axis in (
        (first, "First row", "row", 0),
        (second, "First column", "column", 1),
    )
]
if reader.block(name, *at, size) is None:
    if comparison.checkpoints_missing(chosen):
        st.info(
            "The values cannot be read: the checkpoints are not on this machine. Everything else is"
            " kept here."
        )
    elif server.read_only():
        st.info("This server is read-only: values that nobody read before are not read.")
    else:
        try:
            with st.spinner("Reading the values from the files"):
                comparison.fetch_block(chosen, name, *at, size)
        except OpdvizError as error:
            st.info(plain(error, limit=600))
if reader.block(name, *at, size) is not None:
    figure.show("pixels", chosen)
tables.part_table(chosen, name)
