"""Spectra and angles of the whole run: how concentrated, along which directions of the base, how far these turned."""

import streamlit as st

from opdviz import sentences, tables, ui
from opdviz.figures import directions

chosen = ui.need_comparison()
ui.heading("In which directions", chosen)
tensors = ui.need_rows(ui.table(chosen, "by_tensor"), "measurement")
matrices = tensors[tensors["kind"] != "vector"]
if "stable_rank_chance" not in matrices or not matrices["stable_rank_chance"].notna().any():
    ui.need_rows(matrices.iloc[:0], "spectrum")
ui.reading(sentences.directions(matrices) + " Every dot is a matrix; hover for its name.")
columns = ["name", "module", "block", "layer", "stable_rank", "stable_rank_chance"]
figure = directions.stable_rank_strip(matrices)
if name := ui.picked(ui.show(figure, "stable_rank", matrices[columns], ("stable_rank",), on_select="rerun")):
    ui.open_tensor(name)
st.markdown(sentences.rounding(tables.tail_ratios(chosen.store, chosen.key), ", ".join(chosen.manifest["dtypes"])))

st.subheader("Does it lie in the base's leading directions?", anchor=False)
if "projection_joint" in matrices and matrices["projection_joint"].notna().any():
    ui.reading(
        "Right of the line: more of the update lies there than a blind one would put. Medians hide single layers."
    )
    columns = ["name", *(f"projection_{s}{c}" for s in ("joint", "left", "right") for c in ("", "_chance"))]
    shown = directions.projection_dots(matrices)
    if name := ui.picked(
        ui.show(shown, "projection", matrices[columns], ("projection_joint", "energy"), on_select="rerun")
    ):
        ui.open_tensor(name)
    st.subheader("How far did the base's leading directions turn?", anchor=False)
    ui.reading(
        "Above the diagonal: turned further than a blind update of the same norm. Missing where that is not small."
    )
    columns = ["name", *(f"rotation_{s}{c}" for s in ("left", "right") for c in ("", "_chance"))]
    ui.show(directions.rotation_scatter(matrices), "rotation", matrices[columns], ("rms_sine", "gap"))
else:
    st.info("Projections and angles appear as soon as they are computed.")
