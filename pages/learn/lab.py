"""The lab: small models trained on a laptop in the papers' regime, and what of the papers' claims
shows on them.
"""

import streamlit as st

from opdviz.errors import OpdvizError
from opdviz.figures import lab
from opdviz.lab import claims, judging, results, rules
from opdviz.ui import figure, links, server
from opdviz.ui import lab as lab_tables
from opdviz.words import count, plain

st.title("The lab", anchor=False)
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
before = judging.Runs(found).before
if main.empty or before is None:
    st.info("No results yet: `opdviz lab run main`, then `opdviz lab evaluate`.")
    links.end()
# SGD has a learning rate of its own, and stands with the ablation below.
alike = main[main["optimizer"] == "AdamW"]
figure.reading(
    f"**{results.accuracy_reading(alike)}** {rules.beats_random(judging.Runs(found)).text}"
)
figure.figure(
    lab.accuracy(alike, results.mean_accuracy(alike), before), "lab_accuracy", alike, ("accuracy",)
)

st.header("What the papers claim, and what shows here", anchor=False)
verdicts = claims.verdicts(found)
seeds = main.groupby("recipe")["seed"].nunique()
figure.reading(
    f"**{claims.tally(verdicts)}.** A verdict needs every seed that has what it asks for on one"
    f" side; how many these are stands beside it ({count(seeds.max(), 'seed')} a recipe, one base:"
    " the spread is that of data and sampling; the checkpoints of the first come with opdviz)."
    " Rules written while they trained, and stricter since. What does not show is not refuted."
)
lab_tables.verdict_lines(verdicts)

st.header("Every recipe", anchor=False)
figure.reading(
    "Means over seeds. Coverages stand beside the band of blind updates, all else beside its chance"
    " level."
)
lab_tables.recipe_table(results.by_recipe(found))

pairs = results.overlaps(found)
if len(pairs):
    st.header("Do two runs move the same coordinates?", anchor=False)
    figure.reading(
        "Visible coordinates that both moved, beside independent masks and beside masks that know"
        " the sizes of the weights alone. Only beyond 1 in the last column does the training speak."
    )
    lab_tables.overlap_table(pairs)

st.header("Sparsity against gain", anchor=False)
gains = results.gains(found)
figure.reading(
    "Each line is one OPD run, from its first steps on the left to its end; in the grey range half"
    " to 95 % of the coordinates keep their bf16 bits, as in the papers. How sparse an update is"
    " follows from the learning rate and the steps first. Every width has a base of its own, and"
    f" gains from there: {results.starts(found)}."
)
figure.figure(lab.sweep(gains), "lab_sweep", gains, ("sparsity_exact", "accuracy"))

lab_tables.parts_kept(found)
lab_tables.sixteen_bits(found)
ablation = results.of_group(found, "curve", "ablation")
if len(ablation):
    st.header("AdamW against SGD, both tuned", anchor=False)
    first = ablation[ablation["seed"] == ablation["seed"].min()]
    figure.reading(rules.behind(judging.Runs(found)).text)
    figure.figure(
        lab.ablation(first, results.at_the_end(first)),
        "lab_ablation",
        first,
        ("accuracy", "sparsity_exact"),
    )
    moments = rules.at_best_rates(found, "diagnostics")
    figure.reading(
        "What each optimizer saw at its best learning rate: how unequal the sizes of the gradient's"
        " coordinates are, which AdamW evens out, and how steady its direction is."
    )
    figure.figure(
        lab.moments(results.moments_over_seeds(moments)),
        "lab_moments",
        moments,
        ("cv_sqrt_v", "cosine"),
    )
