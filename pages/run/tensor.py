"""One tensor: how concentrated its update is, which weights moved, how far its subspaces turned, where it stands."""

import streamlit as st

from opdviz import sentences, tables, ui
from opdviz.errors import OpdvizError
from opdviz.figures import coordinates, tensor
from opdviz.words import percent, plain

chosen = ui.need_comparison()
tensors = ui.need_rows(ui.table(chosen, "by_tensor"), "measurement").sort_values("name")
names = tensors["name"].tolist()
if st.session_state.get("tensor") not in names:
    matrices = tensors[tensors["kind"] != "vector"] if (tensors["kind"] != "vector").any() else tensors
    largest = matrices.sort_values("delta_norm", ascending=False)["name"].iloc[0]
    if "tensor" not in st.query_params:
        st.session_state["tensor"] = largest
first, last = st.columns([3, 2], vertical_alignment="bottom")
name = first.selectbox("Tensor", names, key="tensor", bind="query-params", filter_mode="contains")
row = tensors.set_index("name").loc[name]
tables.focus(chosen.store, chosen.key, name)
with last.container(horizontal=True):
    for step, sign in ((-1, "← previous"), (1, "next →")):
        other = names[(names.index(name) + step) % len(names)]
        st.button(
            sign, help=plain(other), key=f"step_{step}", on_click=st.session_state.update, args=({"tensor": other},)
        )
facts = [
    " › ".join([row["tower"], f"layer {row['layer']}" if row.notna()["layer"] else "no layer", row["block"]]),
    f"{row['shape']}, {row['base_dtype']}",
    f"relative norm {percent(row['relative_norm'])}",
]
if "sparsity_exact" in row:
    facts.append(f"moved {percent(1 - row['sparsity_exact'])} as bf16")
if row["shrink"] == row["shrink"]:
    facts.append(f"shrink {percent(row['shrink'])}")
ui.heading(plain(name), chosen, *facts)


def of(table: str):
    """The rows of one table that speak of this tensor."""
    rows = ui.table(chosen, table)
    return rows[rows["name"] == name] if len(rows) else rows


spectrum = of("spectrum")
left, right = st.columns(2)
if len(spectrum):
    r = int(spectrum["index"].max())
    energy = spectrum[spectrum["matrix"].isin(["delta", "gaussian", "rounding_null"])].dropna(subset=["energy"])
    with left:
        st.subheader("How concentrated is the update?", anchor=False)
        ui.reading(sentences.tensor(energy, r))
        ui.show(tensor.cumulative_energy(energy, r), "energy", energy, ("top16_energy", "energy"))
else:
    left.info("No spectrum: " + (", ".join(sorted(set(of("skipped").get("reason", [])))) or "not computed yet") + ".")
bins = tables.moved_given_size(chosen.store, chosen.key, name=name)
with right:
    st.subheader("Which weights moved?", anchor=False)
    if len(bins):
        ui.reading(sentences.coordinates(bins))
        ui.show(coordinates.moved_given_size(bins, height=tensor.HEIGHT), "moved", bins, ("moved", "null_moved"))
left, right = st.columns(2)
if len(spectrum):
    angles = of("angle")
    with left:
        st.subheader("How far did the leading subspace turn?", anchor=False)
        ui.show(tensor.angles(angles, r), "angles", angles, ("degrees", "rms_sine", "gap"))
    with right:
        st.subheader("Spectra", anchor=False)
        ui.show(tensor.spectra(spectrum, r), "spectra", spectrum, ("sigma", "stable_rank", "entropy_rank"))
histogram = tables.at_headline_precision(of("histogram"))
with st.expander("Sizes of weights and changes", expanded=False):
    histogram = histogram[histogram["threshold"] == 0.0]
    ui.show(tensor.magnitudes(histogram), "magnitudes", histogram, ("of", "count"))
profile = of("profile")
if len(profile):
    with st.expander("Rows, columns and heads"):
        for quantity in ("moved", "energy"):
            wide = bool(profile["moved_bfloat16"].notna().any())
            ui.show(tensor.profile(profile, quantity, wide=wide), f"profile_{quantity}", profile, (quantity, "axis"))
if len(vocabulary := of("rows")):
    told = f"{row['untouched_rows']:,} rows unchanged as stored, {row['decayed_rows']:,} of {row['rows']:,} only shrank"
    with st.expander(f"The most moved rows; {told}", expanded=True):
        columns = ["row", "token", "relative_norm", "moved", "shrink", "cosine"]
        st.dataframe(vocabulary.sort_values("relative_norm", ascending=False)[columns], hide_index=True,
                     column_config={c: ui.column(c) for c in columns})  # fmt: skip
if row.notna()["rows"]:
    with st.expander("The values themselves"):
        first, second, third, fourth = st.columns(4, vertical_alignment="bottom")
        top = first.number_input("First row", 0, int(row["rows"]) - 1, key="first_row")
        start = second.number_input("First column", 0, int(row["columns"]) - 1, key="first_column")
        size = third.selectbox("Size", [64, 128, 256, 512], index=1, key="size")
        if fourth.button("Read from the files", key="read_block"):
            try:
                block = ui.block(chosen, name, top, start, size)
                ui.show(tensor.pixels(block), "pixels", block, ("delta_max", "delta_rms"))
            except OpdvizError as error:
                st.info(plain(error))
