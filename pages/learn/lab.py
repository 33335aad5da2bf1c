"""The lab: small models trained on a laptop in the papers' regime, and what of the papers' claims
shows on them.
"""

import streamlit as st

from opdviz.errors import OpdvizError
from opdviz.figures import lab
from opdviz.lab import claims, results
from opdviz.ui import figure, links, server, tables
from opdviz.words import count, plain

COLUMNS = (
    "recipe", "seeds", "learning_rate", "test", "test_spread", "comparison", "relative_norm", "unchanged_absolute",
    "unchanged_exact", "top16_energy", "top16_energy_chance", "stable_rank", "stable_rank_chance", "coverage_principal",
    "coverage_principal_null_low", "coverage_principal_null_high", "coverage_low_magnitude", "coverage_low_magnitude_null_low",
    "coverage_low_magnitude_null_high", "projection_joint", "projection_joint_chance", "mask_density",
)  # fmt: skip
OVERLAPS = {
    "run_a": st.column_config.TextColumn("run"),
    "run_b": st.column_config.TextColumn("beside"),
    "jaccard": tables.column("jaccard"),
    "times_chance": st.column_config.NumberColumn("times chance", format="%.3g"),
    "times_expected": st.column_config.NumberColumn("times what sizes explain", format="%.3g"),
}
COLOURS = {claims.SEEN: "green", claims.OPPOSITE: "orange", claims.NOT_JUDGED: "blue"}
st.header("The lab", anchor=False)
st.markdown(
    "A 2.4 M parameter model of Qwen3's architecture learns three-digit addition, is stopped short"
    " of it, and is then trained on in the ways that the papers compare: from one base, for 200"
    " steps, with AdamW at one learning rate, saved as bf16. The runs come with opdviz; `opdviz lab"
    " run` makes them again, and more of them."
)
try:
    found = results.read(server.store().root / "lab")
except OpdvizError as error:
    st.error(plain(error))
    links.end()
main = results.of_group(found, "runs", "main")
before = claims.Runs(found).before
if main.empty or before is None:
    st.info("No results yet: `opdviz lab run main`, then `opdviz lab evaluate`.")
    links.end()
# SGD has a learning rate of its own, and stands with the ablation below.
alike = main[main["optimizer"] == "AdamW"]
figure.reading(f"**{lab.summary(alike)}** {claims.beats_random(claims.Runs(found)).text}")
figure.figure(lab.accuracy(alike, before), "lab_accuracy", alike, ("accuracy",))

st.subheader("What the papers claim, and what shows here", anchor=False)
verdicts = claims.verdicts(found)
seeds = main.groupby("recipe")["seed"].nunique()
figure.reading(
    f"**{claims.tally(verdicts)}.** A verdict needs every seed that has what it asks for on one"
    f" side; how many these are stands beside it ({count(seeds.max(), 'seed')} a recipe, one base:"
    " the spread is that of data and sampling; the checkpoints of the first come with opdviz)."
    " Rules written while they trained, and stricter since. What does not show is not refuted."
)
for row in verdicts:
    left, right = st.columns([1, 6])
    left.badge(row["verdict"], color=COLOURS.get(row["verdict"], "gray"))
    left.caption(count(row["seeds"], "seed") if row["seeds"] else "")
    right.markdown(f"**{row['claim']}** {row['here']}")
    if row["published"]:
        right.caption(f"Published (arXiv 2606.13657): {row['published']}")

st.subheader("Every recipe", anchor=False)
table = results.by_recipe(found)
shown = [c for c in COLUMNS if c in table]
figure.reading(
    "Means over seeds. Coverages stand beside the band of blind updates, all else beside its chance"
    " level."
)
config = {c: tables.column(c) for c in shown} | {
    "learning_rate": st.column_config.NumberColumn("rate", format="scientific")
}
st.dataframe(table[shown], hide_index=True, key="lab_runs", column_config=config)

pairs = results.overlaps(found)
if len(pairs):
    st.subheader("Do two runs move the same coordinates?", anchor=False)
    figure.reading(
        "Visible coordinates that both moved, beside independent masks and beside masks that know"
        " the sizes of the weights alone. Only beyond 1 in the last column does the training speak."
    )
    st.dataframe(pairs, hide_index=True, key="lab_overlaps", column_config=OVERLAPS)

st.subheader("Sparsity against gain", anchor=False)
gains = results.gains(found)
figure.reading(
    "Each line is one OPD run, from its first steps on the left to its end; in the grey range half"
    " to 95 % of the coordinates keep their bf16 bits, as in the papers. How sparse an update is"
    " follows from the learning rate and the steps first. Every width has a base of its own, and"
    f" gains from there: {results.starts(found)}."
)
figure.figure(lab.sweep(gains), "lab_sweep", gains, ("sparsity_exact", "accuracy"))

ablation = results.of_group(found, "curve", "ablation")
if len(ablation):
    st.subheader("AdamW against SGD, both tuned", anchor=False)
    first = ablation[ablation["seed"] == ablation["seed"].min()]
    figure.reading(claims.behind(claims.Runs(found)).text)
    figure.figure(lab.ablation(first), "lab_ablation", first, ("accuracy", "sparsity_exact"))
    moments = claims.at_best_rates(found, "diagnostics")
    figure.reading(
        "What each optimizer saw at its best learning rate: how unequal the sizes of the gradient's"
        " coordinates are, which AdamW evens out, and how steady its direction is."
    )
    figure.figure(lab.moments(moments), "lab_moments", moments, ("cv_sqrt_v", "cosine"))
