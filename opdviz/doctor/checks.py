"""What each rule of the doctor looks for.

Thresholds are of chance where there is one: a tensor counts as left behind only where its siblings
moved so much that it would have moved too.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from opdviz.checkpoint.formats import FORMATS
from opdviz.definitions import SIXTEEN_BITS, WIDE
from opdviz.doctor.copies import in_place
from opdviz.doctor.finding import Finding, Patient, Rule
from opdviz.layouts import ROWS
from opdviz.tables import precision
from opdviz.words import count, how_many, listing, number, percent

FEWEST_SIBLINGS = 5
# Of the median deviation: that of a Gaussian, and a floor of a tenth, below which layers are alike.
TO_SIGMA, LEAST_SPREAD = 1.4826, 0.1
# Of weights that are near a Gaussian: the norm of what rounding changes beside theirs, in units of
# a quarter of a step at 1; measured on draws, within 1 % at any scale.
ROUNDING = 0.85


def identical(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """No weight differs."""
    rows = patient.tensors
    if len(rows) and not rows["moved"].fillna(0).any():
        weights = int(rows["numel"].sum())
        yield rule.finding(f"None of {weights:,} weights differs.", weights=weights)


def left_behind(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Matrices that are bit-equal though the same module moved in other layers, and other modules
    in theirs.
    """
    rows = stuck(patient.matrices)
    expected = rows[["elsewhere", "beside"]].min(axis=1)
    rows, expected = rows[expected >= rule.threshold], expected[expected >= rule.threshold]
    if len(rows):
        yield rule.finding(
            f"{how_many(len(rows), len(patient.matrices)).capitalize()} matrices are bit-equal to"
            " the base, though the same module moved in other layers, and other modules in theirs.",
            rows,
            moves_expected=float(expected.min()),
        )


def layer_frozen(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Layers of which no matrix moved, though those of others did."""
    rows = stuck(patient.matrices)
    rows = rows[(rows["beside"] == 0) & (rows["elsewhere"] >= rule.threshold)]
    by = ["tower", "layer"]
    every = patient.matrices.groupby(by, dropna=False)["name"].transform("size")
    rows = rows[rows.groupby(by, dropna=False)["name"].transform("size") == every[rows.index]]
    if len(rows):
        layers = sorted(rows["layer"].astype(int).unique())
        of_all = how_many(len(rows[by].drop_duplicates()), patient.matrices["layer"].nunique())
        yield rule.finding(
            f"{of_all.capitalize()} layers have no matrix that moved, though others have:"
            f" {listing([str(layer) for layer in layers])}.",
            rows,
            layers=[int(layer) for layer in layers],
        )


def module_frozen(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Modules that moved in no layer, though others did."""
    rows = stuck(patient.matrices)
    rows = rows[(rows["elsewhere"] == 0) & (rows["beside"] >= rule.threshold)]
    for module, part in rows.groupby("module", sort=False):
        every = int((patient.matrices["module"] == module).sum())
        if len(part) == every:
            yield rule.finding(
                f"{module} moved in none of its {count(every, 'matrix', 'matrices')}, though other"
                " modules of these layers did.",
                part,
            )


def stuck(matrices: pd.DataFrame) -> pd.DataFrame:
    """Matrices of which nothing moved, with the moves that they would have had at the density of
    the same module `elsewhere`, and of other modules of their layer, `beside` them. Experts are
    asked for by themselves.
    """
    rows = matrices[matrices["expert"].isna()]
    sums = {
        by: rows.groupby(list(by), dropna=False)[["moved", "numel"]].transform("sum")
        for by in (("tower", "module"), ("tower", "layer"))
    }
    expected = {
        by: rows["numel"] * (total["moved"] - rows["moved"]) / (total["numel"] - rows["numel"])
        for by, total in sums.items()
    }
    elsewhere, beside = (part.fillna(0.0) for part in expected.values())
    return rows.assign(elsewhere=elsewhere, beside=beside)[rows["moved"] == 0]


def only_small(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Something moved, and no matrix of a layer."""
    rows, matrices = patient.weights, patient.matrices
    moved = rows[rows["moved"] > 0]
    if len(matrices) and len(moved) and not (matrices["moved"] > 0).any():
        blocks = ", ".join(sorted(moved["block"].unique()))
        yield rule.finding(
            f"Of {count(len(moved), 'tensor')} that moved none is a matrix of attention or ffn:"
            f" {blocks} alone.",
            moved,
        )


def against_declaration(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """What was declared frozen and moved, or to move and did not."""
    rows = patient.tensors
    moved = rows["moved"].fillna(0) > 0
    for names, wrong, words in (
        (patient.expected_frozen, moved, "expected frozen, and moved"),
        (patient.expected_moved, ~moved, "expected to move, and did not"),
    ):
        declared = rows["name"].isin(names)
        part = rows[declared & wrong]
        if len(part):
            of_all = how_many(len(part), int(declared.sum()))
            yield rule.finding(f"{of_all.capitalize()} tensors were {words}.", part)


def idle_experts(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Experts of which nothing moved, though others of their layer did."""
    rows = patient.weights
    rows = rows[rows["expert"].notna()]
    if rows.empty:
        return
    by = ["tower", "layer", "expert"]
    experts = rows.groupby(by, dropna=False, as_index=False)[["moved", "numel"]].sum()
    layer = experts.groupby(["tower", "layer"], dropna=False)[["moved", "numel"]].transform("sum")
    density = (layer["moved"] - experts["moved"]) / (layer["numel"] - experts["numel"])
    idle = experts[(experts["moved"] == 0) & (density * experts["numel"] >= rule.threshold)]
    if len(idle):
        part = rows.merge(idle[by], on=by)
        yield rule.finding(
            f"{how_many(len(idle), len(experts)).capitalize()} experts never moved, though others"
            " of their layers did.",
            part,
            experts=len(idle),
        )


def router(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Whether the routers of a mixture of experts moved."""
    rows = patient.weights
    routers = rows[rows["block"] == "router"]
    if len(routers) and (rows["moved"] > 0).any():
        moved = int((routers["moved"] > 0).sum())
        yield rule.finding(
            f"{how_many(moved, len(routers)).capitalize()} routers moved.", routers, moved=moved
        )


def at_their_start(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Norms of ones and biases of zeros on both sides, though the rest moved."""
    rows = patient.weights
    still = rows[(rows["moved"] == 0) & (rows["kind"] == "vector") & (rows["numel"] > 1)]
    # Values other than all ones that have a root mean square of exactly 1 are not met by chance.
    ones = (still["block"] == "norm") & (still["base_rms"] == 1.0)
    zeros = still["name"].str.endswith("bias") & (still["base_norm"] == 0.0)
    for part, words in ((ones, "Norms are exactly 1"), (zeros, "Biases are exactly 0")):
        if part.any() and (rows["moved"] > 0).any():
            yield rule.finding(
                f"{words} on both sides in {count(int(part.sum()), 'tensor')}.", still[part]
            )


def another_model(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Matrices whose base and tuned point elsewhere."""
    rows = in_place(patient.matrices)
    rows = rows[rows["cosine"] < rule.threshold]
    if len(rows):
        least = float(rows["cosine"].min())
        yield rule.finding(
            f"{how_many(len(rows), len(patient.matrices)).capitalize()} matrices have a cosine to"
            f" their base below {rule.threshold:g}, the least {number(least)}.",
            rows,
            least=least,
        )


def decay_alone(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Tensors whose update points against the base."""
    rows = in_place(patient.weights)
    rows = rows[(rows["relative_norm"] > 0) & (rows["numel"] > 1)]
    along = rows["shrink"] / rows["relative_norm"]
    rows = rows[along < rule.threshold]
    if len(rows):
        yield rule.finding(
            f"The updates of {count(len(rows), 'tensor')} point against their base (cosine below"
            f" {rule.threshold:g}).",
            rows,
            least=float(along.min()),
        )


def decayed_words(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Rows of an embedding that only shrank."""
    rows = in_place(patient.weights)
    rows = rows[rows["block"].isin(["embedding", "head"]) & (rows["decayed_rows"].fillna(0) > 0)]
    for row in rows.to_dict("records"):
        yield rule.finding(
            f"{int(row['decayed_rows']):,} of {int(row['rows']):,} rows of {row['module']} only"
            " shrank.",
            rows[rows["name"] == row["name"]],
            decayed=int(row["decayed_rows"]),
        )


def not_finite(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """NaN or infinite values on a side."""
    rows = patient.tensors
    rows = rows[rows["nonfinite"].fillna(0) > 0]
    if len(rows):
        total = int(rows["nonfinite"].sum())
        yield rule.finding(
            f"{total:,} coordinates of {count(len(rows), 'tensor')} are NaN or infinite.",
            rows,
            coordinates=total,
        )


def scale_jump(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Tensors that moved far more or less than their module does elsewhere."""
    rows = in_place(patient.matrices)
    rows = rows[rows["relative_norm"] > 0]
    size = np.log(rows["relative_norm"].astype(float))
    of_module = size.groupby([rows["tower"], rows["module"]])
    middle = of_module.transform("median")
    off = (size - middle).abs()
    spread = off.groupby([rows["tower"], rows["module"]]).transform("median") * TO_SIGMA
    deviations = off / spread.clip(lower=LEAST_SPREAD)
    enough = of_module.transform("size") >= FEWEST_SIBLINGS
    far = enough & (deviations > rule.threshold)
    rows, times = rows[far], np.exp(size - middle)[far]
    if len(rows):
        worst = np.log(times).abs().idxmax()
        yield rule.finding(
            f"{count(len(rows), 'matrix', 'matrices')} moved far from what their module does in"
            f" other layers: {rows.loc[worst, 'name']} {number(float(times[worst]))} times as"
            " much.",
            rows,
            deviations=float(deviations.max()),
        )


def narrowed(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """The tuned is stored in fewer bits than the base."""
    rows = patient.weights
    rows = rows[rows["base_dtype"].isin(WIDE) & rows["tuned_dtype"].isin(SIXTEEN_BITS)]
    if len(rows):
        weights = rows["base_norm"].astype(float) ** 2
        bits = rows["tuned_dtype"].map({name: FORMATS[name].mantissa for name in SIXTEEN_BITS})
        rounding = float((weights * (ROUNDING * 2.0 ** -(bits + 2)) ** 2).sum())
        # The base is rounded before it is compared: what is counted is what is left.
        differs = rounding + float((rows["delta_norm"].astype(float) ** 2).sum())
        yield rule.finding(
            f"{count(len(rows), 'tensor')} are stored finer in the base than in the tuned: storing"
            f" alone changes them by about {percent((rounding / float(weights.sum())) ** 0.5)} of"
            f" their norm, {percent(rounding / differs)} of all that differs (energy). It is taken"
            " off before anything is counted.",
            rows,
            rounding_share=rounding / differs,
        )


def resized(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """An embedding or a head of another size."""
    rows = patient.unmatched
    if rows.empty:
        return
    rows = rows[rows["reason"].str.startswith(("shapes differ", f"{ROWS} "))]
    rows = rows[rows["name"].str.contains("embed|wte|lm_head|head|score", regex=True)]
    rows = rows.drop_duplicates("name")
    if len(rows):
        yield rule.finding(
            f"{', '.join(rows['name'].head(3))}: {rows['reason'].iloc[0]}; not compared.",
            rows,
        )


def one_step(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Nearly every weight went on by one grid step, and none by more."""
    rows = patient.steps
    if rows.empty:
        return
    rows = rows[rows["precision"] == "stored"]
    total = rows.set_index("steps")["count"]
    every, moved = float(total.sum()), float(total.sum() - total.get("0", 0))
    single = float(total.get("1", 0))
    if every and moved / every >= rule.threshold and single / moved >= rule.threshold:
        yield rule.finding(
            f"{percent(moved / every)} of the weights moved, {percent(single / moved)} of them by"
            " exactly one step of their format.",
            moved=moved / every,
        )


def rounded_away(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Modules in which single steps no longer showed from one octave of the weight on."""
    rows = patient.precision
    cut = rows[rows["verdict"] == precision.CUT_OFF] if len(rows) else rows
    if len(cut):
        matrices = patient.matrices
        low, high = float(cut["step_low"].min()), float(cut["step_high"].max())
        yield rule.finding(
            f"In {how_many(len(cut), len(rows))} modules nothing moved above an octave of the"
            f" weight in which it should have: the largest single step was between {low:.2g} and"
            f" {high:.2g}.",
            matrices[matrices["module"].isin(cut["module"])],
            step_low=low,
            step_high=high,
        )


def sixteen_in_thirty_two(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Files of float32 whose every value is one of bf16."""
    rows = patient.weights
    rows = rows[(rows["tuned_dtype"] == "float32") & (rows["moved"] > 0)]
    # Squares of other values would sum to something else.
    same = (rows["base_norm"] == rows["base_norm_bfloat16"]) & (
        rows["delta_norm"] == rows["delta_norm_bfloat16"]
    )
    if len(rows) and same.all():
        yield rule.finding(
            f"All {count(len(rows), 'tensor')} that moved are stored as float32 and hold values of"
            " bf16 alone.",
            rows,
        )
