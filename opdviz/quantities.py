"""The one dictionary of quantities: label, unit, meaning, formula, bounds, chance, pitfall and source of every number.

Axis titles, tooltips, the methods page, the README's table and the bound tests all read it.
"""

from dataclasses import dataclass

A, B, C, D, E = "arXiv 2606.13657", "arXiv 2606.07082", "arXiv 2511.08567", "arXiv 2505.11711", "arXiv 2602.07729"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One column of one or more tables. `low` and `high` bound its values; `unit` is '1' for a plain number."""

    name: str
    label: str
    meaning: str
    unit: str = ""
    formula: str = ""
    low: float | None = None
    high: float | None = None
    chance: str = ""
    pitfall: str = ""
    source: str = ""
    log: bool = False


def share(name: str, label: str, meaning: str, **more) -> Quantity:
    """A quantity between 0 and 1."""
    return Quantity(name, label, meaning, "share", low=0.0, high=1.0, **more)


def count(name: str, label: str, meaning: str, **more) -> Quantity:
    """A whole number from 0."""
    return Quantity(name, label, meaning, "count", low=0.0, **more)


def word(name: str, label: str, meaning: str) -> Quantity:
    """A word: a name, a kind, a side."""
    return Quantity(name, label, meaning)


MAGNITUDE = (
    Quantity("base_norm", "norm of the base", "Size of the base tensor.", "1", "||W||_F", low=0),
    Quantity("tuned_norm", "norm of the tuned", "Size of the tuned tensor.", "1", "||T||_F", low=0),
    Quantity("delta_norm", "norm of the update", "Size of the update.", "1", "||D||_F, D = T - W", low=0, log=True),
    Quantity(
        "relative_norm", "relative norm", "Size of the update beside the size of what it updates.", "1",
        "||D||_F / ||W||_F", low=0, source=A, log=True,
        pitfall="Movement is not importance; and runs of different length differ in it before they differ in kind.",
    ),
    *(Quantity(f"{norm}_bfloat16", f"{label}, as bf16", f"{what} after both sides are rounded to bfloat16.", "1",
               f"of bf16(W) and bf16(T): {formula}", low=0, source=A,
               pitfall="Of a wide file the norm as stored is up to three times larger: rounding takes small changes away.")
      for norm, label, what, formula in (("base_norm", "norm of the base", "Size of the base", "||W||_F"),
                                         ("delta_norm", "norm of the update", "Size of the update", "||D||_F"))),
    count("off_grid", "base values off the grid", "Base values that the tuned's format cannot hold: they enter rounded to it, so "
          "that what storing alone moves is no update."),
    Quantity("delta_max", "largest change", "The largest change of one coordinate.", "1", "max |D|", low=0, log=True),
    Quantity("delta_mean_abs", "mean change", "The mean size of a coordinate's change.", "1", "mean |D|", low=0, log=True),
    Quantity("delta_rms", "rms change", "Root mean square change.", "1", "||D||_F / sqrt(numel)", low=0, log=True),
    Quantity("base_rms", "rms of the base", "Root mean square weight of the base.", "1", "||W||_F / sqrt(numel)", low=0),
    Quantity(
        "cosine", "cosine", "Direction: of base and tuned, or of a row's change and the row.", "1",
        "<W, T> / (||W|| ||T||)", low=-1, high=1, pitfall="Below 0.9 for a whole model: is this the right base?",
    ),
    Quantity(
        "shrink", "shrink", "The part of the update that only scales the weights.", "1", "<D, W> / ||W||^2",
        pitfall="Pure weight decay is shrink below 0 and nothing else.",
    ),
    count("nonfinite", "not finite", "Coordinates that are NaN or infinite on either side; left out of every number."),
    Quantity(
        "moved", "moved", "Coordinates that changed: a count, or in profiles a share.", "count or share",
        "#{D != 0}", low=0, pitfall="Unchanged as stored is not the same as never updated.",
    ),
    share("moved_bfloat16", "moved as bf16", "Share that differs after rounding both sides to bf16; missing where stored so."),
    count("untouched_rows", "untouched rows", "Rows of an embedding or a head in which nothing moved."),
    count("decayed_rows", "rows that only shrank", "Rows of an embedding or a head whose update points against them.",
          formula="cosine of D and W in the row < -0.9",
          pitfall="Weight decay also moves tokens that training never saw."),
)  # fmt: skip
SPARSITY = (
    word("precision", "precision", "Counted as stored, or after rounding both sides to bfloat16."),
    word(
        "probe", "probe",
        "When a coordinate counts as unchanged: exact D = 0; absolute |D| <= threshold; relative |D| <= threshold times "
        "the larger of |W| and |T|; base_rms |D| < threshold times rms(W).",
    ),
    Quantity("threshold", "threshold", "The probe's threshold; 0 for exact.", "1", low=0),
    count("unchanged", "unchanged", "Coordinates that a probe calls unchanged."),
    count("flipped", "flipped", "Coordinates that went through zero: positive on one side, negative on the other."),
    share(
        "share", "share", "A share: of coordinates, of directions or of a mask, as the table says.",
        formula="count / numel, or k / r", source=f"{A}, {B}, {D}",
        chance="For shares unchanged none is drawn: how many coordinates a blind update leaves alone follows from the number "
        "format. Given the size of the weight, P(moved) has its null.",
        pitfall="Sparsity depends on the number format: the same update is sparser as bf16 than as float32.",
    ),
    word("steps", "grid steps", "|D| in steps of the stored format at the base value (ulp)."),
    count("count", "count", "Coordinates in the bin.",
          chance="For sizes of weights and changes: a Gaussian of the same norm."),
)  # fmt: skip
CONCENTRATION = (
    share("top_share", "top share", "The share of coordinates, the most changed first."),
    share(
        "energy_share", "energy share", "Share of the update's energy that a part holds.",
        formula="sum of D^2 in the part / sum of D^2",
        chance="For the largest k of n coordinates of a Gaussian: p + 2 q phi(q), p = k / n, q the 1 - p/2 quantile; for k "
        "below 20 the sum of the chi-square quantiles at (j - 1/2) / n.",
        pitfall="A ratio of norms is not a ratio of energies: square it.",
    ),
    Quantity("chance", "chance", "What a blind update would give: independent Gaussian entries of the same norm.", "1", low=0),
)  # fmt: skip
SPECTRUM = (
    word("matrix", "matrix", "Whose values: base, tuned, delta, gaussian (chance), rounding_null (a rank-16 update, stored)."),
    count("index", "index", "Position from 1, largest first (angles: smallest first)."),
    Quantity("sigma", "singular value", "Singular value.", "1", "s_i", low=0, log=True),
    Quantity("spectral_norm", "largest singular value", "Largest singular value.", "1", "s_1", low=0, log=True),
    Quantity(
        "stable_rank", "stable rank", "How many directions of the largest strength would hold the energy.", "1",
        "||D||_F^2 / s_1^2", low=1, source=A, log=True,
        chance="The same for a Gaussian matrix of the shape (Marchenko-Pastur).",
        pitfall="Ten sketched values are not the spectrum: stable rank needs the whole norm.",
    ),
    Quantity("entropy_rank", "entropy rank", "Effective number of directions by the entropy of the singular values.", "1",
             "exp(-sum p log p), p = s / sum s", low=1, source=A),
    Quantity("energy_entropy_rank", "energy entropy rank", "The same by the entropy of the energies.", "1",
             "exp(-sum p log p), p = s^2 / sum s^2", low=1),
    *(count(f"rank_{p}", f"rank for {p} %", f"Smallest number of directions that holds {p} % of the energy.", source=E)
      for p in (50, 90, 99)),
    Quantity("norm", "norm", "Frobenius norm of the matrix.", "1", "sqrt(sum s^2)", low=0),
    Quantity("position", "position of the tail", "Where the tail of the update's spectrum stands between what storing a rank-16 "
             "update of this norm leaves (0) and noise (1).", "1", "(E32(null) - E32(D)) / (E32(null) - E32(gaussian)), E32 = "
             "energy of the top 32", pitfall="Says nothing where fewer than 5 % of the coordinates moved."),
    share("moved_share", "share moved", "Share of the coordinates that changed as stored."),
    word("verdict", "verdict on the tail", "like rounding: position below 0.25 and more than 5 % moved; open: fewer moved, or "
         "the top 32 are nearly all; spread: wider than rounding alone. Missing where there is no rounding null."),
    word("method", "method", "How the spectrum was computed; exact unless it says otherwise."),
    Quantity("error_bound", "error bound", "About the least singular value that the Gram matrix resolves.", "1",
             "1.5e-8 s_1 sqrt(max(2, r / 32))", low=0),
    Quantity("tolerance", "tolerance", "A singular value counts when it is above tolerance times the largest.", "1", low=0),
    count("rank", "rank", "Number of singular values above the tolerance; in coverage, the rank of the reconstruction.",
          pitfall="Rounding to bf16 makes any update numerically full rank: look at the energy instead."),
    count("k", "k", "Number of leading directions.", pitfall="The top 16 of 128 are not the top 16 of 1,536: compare k / r."),
    share("energy", "energy", "Share of the update's energy.", formula="sum of s^2 in the part / ||D||_F^2", source=A,
          chance="A Gaussian matrix of the shape; for projections k^2 / (m n), k / m, k / n."),
)  # fmt: skip
GEOMETRY = (
    word("side", "side", "left: output directions (U); right: input directions (V); joint: both. In unmatched: base or tuned."),
    share("chance_sd", "spread of chance", "Standard deviation of the share for the update turned at random: claims need three.",
          formula="moments of a random rotation, with P = sum s^4 / (sum s^2)^2 of D"),
    share("chance_profile", "chance given profiles", "What an update that keeps its own row and column energies, and nothing "
          "else, would put there.", formula="(sum_i ||U_k[i]||^2 rho_i) (sum_j ||V_k[j]||^2 kappa_j)"),
    Quantity("pairs", "pairs that carry the chance", "How many pairs of singular values decide how far chance would turn the "
             "subspace.", "1", "(sum t)^2 / sum t^2", low=0,
             pitfall="Below 5 the k-th and the next value are nearly equal: the data do not define the subspace."),
    share("energy_without_shrink", "energy without shrink", "The same for D - shrink W.", formula="of D - shrink W"),
    Quantity("mean_sine", "mean sine", "Mean sine of the principal angles of the leading k directions.", "1",
             "mean s(U'_k - U_k U_k^T U'_k)", low=0, high=1, source=A,
             pitfall="sqrt(1 - cos^2) in float32 has a floor near 3e-4, above what small updates turn."),
    Quantity("rms_sine", "rms sine", "Root mean square sine of the principal angles.", "1", "sqrt(mean sin^2)", low=0, high=1,
             chance="Perturbation by a Gaussian of the same norm, near-ties mixing by half; missing above 0.3.",
             pitfall="An angle depends on the gap at k: compare it with its chance, never across matrices."),
    Quantity("max_degrees", "largest angle", "The largest principal angle.", "degrees", "max asin", low=0, high=90),
    Quantity("gap", "gap at k", "Distance of the k-th to the next singular value of the base.", "1", "s_k - s_{k+1}", low=0),
    Quantity("degrees", "principal angle", "Principal angle between base and tuned subspace.", "degrees", low=0, high=90,
             source=B),
    Quantity("drift", "spectral drift", "Change of the singular values.", "1", "||s(T) - s(W)||_2", low=0, source=f"{B}, {C}"),
    Quantity("nss", "normalised spectral shift", "Spectral drift beside the base's spectrum.", "1",
             "||s(T) - s(W)|| / ||s(W)||", low=0, source=f"{B}, {C}", log=True,
             chance="sqrt(sum tau^2 + b_i^2) / ||W||, b_i the rise of the i-th value under any noise; missing beyond three times "
             "the first order relative norm / sqrt(max(m, n))."),
    Quantity("drift_per_delta", "drift per update", "Spectral drift beside the size of the update.", "1",
             "||s(T) - s(W)|| / ||D||_F", low=0, high=1 + 1e-9, source=A),
    word("row_bin", "row bin", "Bin of the base's left directions, in % of r; outside: in no left direction."),
    word("column_bin", "column bin", "Bin of the base's right directions, in % of r; outside: in no right direction."),
)  # fmt: skip
COORDINATES = (
    word("mask", "mask",
         "principal: largest entries of the rank-k reconstruction; low_magnitude: smallest |W|; principal_not_low; "
         "nonprincipal_or_low."),
    count("visible", "visible", "Coordinates that the probe sees changed."),
    share("density", "density", "Share of the coordinates that are visible."),
    share("coverage", "coverage", "Share of the visible coordinates inside a mask.", source=f"{A}, {B}, {C}",
          formula="sum of mask weights over visible / visible", chance="The mask's density.",
          pitfall="Small weights have a finer grid, so blind updates show there more often: look at the null band."),
    share("lowest", "lowest possible", "The least that coverage can be with these densities.", formula="max(0, (d + a - 1) / d)"),
    share("highest", "highest possible", "The most that coverage can be with these densities.", formula="min(1, a / d)"),
    Quantity("enrichment", "enrichment", "Value over chance.", "1", "coverage / density of the mask, or share / share", low=0),
    share("null_low", "typical blind updates, lower end",
          "Lower end of what two blind updates give: the deltas permuted, and Gaussian noise, added and rounded."),
    share("null_high", "typical blind updates, upper end", "Upper end of the same band, three standard errors included."),
    share("blind_low", "all blind updates, lower end", "The least that any blind update with as many visible coordinates covers.",
          formula="lower convex hull of (visible, visible inside) over all sizes and signs, less three standard errors"),
    share("blind_high", "all blind updates, upper end", "The most that any blind update with as many visible coordinates covers.",
          pitfall="Claims are made only beyond it; where the two ends are more than 0.5 apart it has no power."),
    word("of", "of", "Whose magnitudes are binned: base or delta."),
    Quantity("low", "from", "Lower edge of the bin: a magnitude, or the first index.", "1", low=0),
    Quantity("high", "to", "Upper edge of the bin: a magnitude, or one past the last index.", "1", low=0),
    Quantity("null_moved", "moved under the null", "Expected moves in the bin under Gaussian noise with as many moves.",
             "count", low=0),
    word("axis", "axis", "row (outputs) or column (inputs)."),
    count("bin", "bin", "Number of the band of rows or columns; a band never straddles two attention heads."),
    count("row", "row", "Row of an embedding or a head: the token's number."),
    word("token", "token", "The row's token, where a tokenizer file lies beside the base."),
)  # fmt: skip
PLACES = (
    word("name", "tensor", "Name of the base's tensor; [e] is expert e of a stack."),
    word("tuned_name", "name in the tuned", "The tuned tensor's name where it differs."),
    word("tower", "tower", "language, visual, encoder or decoder."),
    count("layer", "layer", "Number of the layer; missing where there is none."),
    word("block", "block", "attention, ffn, router, norm, embedding, head or other."),
    word("module", "module", "The module as spelled in the file."),
    count("expert", "expert", "Number of the expert; missing where there is none."),
    word("shape", "shape", "Shape of the tensor."),
    count("rows", "rows", "Rows (output size)."),
    count("columns", "columns", "Columns (input size)."),
    count("numel", "elements", "Number of elements."),
    word("base_dtype", "stored as (base)", "Storage format of the base."),
    word("tuned_dtype", "stored as (tuned)", "Storage format of the tuned."),
    word("kind", "kind", "matrix, vector, stack, convolution or scalar."),
    word("measure", "measure", "The family of statistics that was skipped."),
    word("reason", "reason", "Why there is no number."),
    word("rule", "rule", "How a name was rewritten."),
    word("detail", "detail", "What the rule did."),
)
GROUPED = (
    count("tensors", "tensors", "Tensors in the group."),
    count("tensors_moved", "tensors moved", "Tensors of the group in which anything moved."),
    count("left_out", "left out", "Tensors of the group with NaN or Inf, in no sum."),
    share("parameter_share", "parameter share", "Share of the parameters that the group holds."),
    share("sparsity_absolute", "unchanged at 1e-5", "Share unchanged by the absolute probe, as counted.", source=f"{A}, {D}"),
    share("sparsity_relative", "unchanged relative", "Share unchanged by the relative probe, as counted.", source=f"{B}, {C}"),
    share("sparsity_exact", "unchanged exactly", "Share with D = 0: as bf16 where stored wider, as stored otherwise."),
    share("top16_energy", "energy of the top 16", "Energy in the 16 leading directions; median in groups.", source=A,
          chance="A Gaussian matrix of the shape.", pitfall="16 of 128 is not 16 of 1,536: compare with the chance."),
    share("coverage_principal", "moved on principal weights", "Coverage of the 10 % principal mask at 1e-5, median.", source=A),
    share("coverage_low_magnitude", "moved on small weights", "Coverage of the 10 % low-magnitude mask at 1e-5, median.",
          source=A),
    share("projection_joint", "joint projection", "Energy inside the leading 10 % of both sides, median.", source=A,
          chance="k^2 / (m n)", pitfall="Below 1 % at 10 % is chance for a square matrix: only the ratio says anything."),
)  # fmt: skip
BY_TENSOR = (
    share("sign_flips", "signs flipped", "Share of coordinates that went through zero.", formula="W T < 0", log=True,
          chance="A blind Gaussian update that shows as often: the mean of Phi(-|W| / scale).",
          pitfall="Only small weights can flip: a large share says that the update is large beside them."),
    *(share(f"projection_{side}", f"{side} projection", f"Energy inside the base's leading 10 % of {what} directions.", source=A,
            chance=f"k / {length}")
      for side, what, length in (("left", "left (output)", "m"), ("right", "right (input)", "n"))),
    *(Quantity(f"rotation_{side}", f"{side} rotation", f"Rms sine of the leading 10 % of {what} directions.", "1",
               "sqrt(mean sin^2)", low=0, high=1, log=True,
               chance="First-order perturbation by a Gaussian of the same norm; missing above 0.3.")
      for side, what in (("left", "left (output)"), ("right", "right (input)"))),
    share("principal_coverage", "on principal weights", "Share of coordinates moved by more than 1e-5 that lie in the 10 % "
          "principal mask.", source=A, chance="The middle of what typical blind updates cover.",
          pitfall="Claims are made only beyond the hull of all blind updates."),
    share("low_magnitude_coverage", "on small weights", "Share of coordinates moved by more than 1e-5 that lie on the 10 % "
          "smallest weights.", source=A, chance="The middle of what typical blind updates cover.",
          pitfall="Small weights have a finer grid, so blind updates show there more often than the mask's density."),
)  # fmt: skip
MAPPED = (
    "relative_norm", "sparsity_absolute", "sparsity_relative", "sparsity_exact", "sign_flips", "stable_rank", "entropy_rank",
    "top16_energy", "projection_joint", "projection_left", "projection_right", "rotation_left", "rotation_right", "nss",
    "principal_coverage", "low_magnitude_coverage", "cosine", "shrink", "delta_norm", "delta_rms", "delta_max",
    "delta_mean_abs", "base_norm", "base_rms", "numel",
)  # fmt: skip
CHANCE_OF = {
    "sign_flips": "sign_flips_chance",
    "stable_rank": "stable_rank_chance",
    "top16_energy": "top16_chance",
    "nss": "nss_chance",
    "principal_coverage": "principal_typical",
    "low_magnitude_coverage": "low_magnitude_typical",
    **{f"projection_{side}": f"projection_{side}_chance" for side in ("joint", "left", "right")},
    **{f"rotation_{side}": f"rotation_{side}_chance" for side in ("left", "right")},
}
RUNS = (
    word("tensor", "tensor", "Name of the base's tensor, as stored."),
    word("run_a", "run a", "The first of two runs on one base."),
    word("run_b", "run b", "The second of two runs on one base."),
    count("a", "moved in a", "Coordinates that run a visibly moved, as bf16."),
    count("b", "moved in b", "Coordinates that run b visibly moved, as bf16."),
    count("both", "moved in both", "Coordinates that both runs visibly moved.",
          chance="chance_both, and expected_both given the sizes of the weights."),
    share("jaccard", "Jaccard index", "Coordinates moved in both runs among those moved in either.",
          formula="|A and B| / |A or B|", chance="jaccard_chance", source=f"{A}, {C}"),
    share("a_in_b", "a's moved, moved in b", "Share of what run a moved that run b moved too.", formula="|A and B| / |A|",
          chance="b / numel", source=A),
    share("b_in_a", "b's moved, moved in a", "Share of what run b moved that run a moved too.", formula="|A and B| / |B|",
          chance="a / numel", source=A),
    Quantity("chance_both", "moved in both, by chance", "As many as two independent masks of these densities share.", "1",
             "a b / numel", low=0, source=A,
             pitfall="Blind updates of bf16 weights already overlap several times more: both show on small weights."),
    Quantity("expected_both", "moved in both, given size", "As many as two masks share that know nothing but each weight's size.",
             "1", "sum of a_bin b_bin / n_bin over quarter octaves of |W|", low=0,
             pitfall="Only the ratio to this one speaks of training."),
    Quantity("expected_both_rows", "moved in both, given size and row", "As many as two masks share that know nothing but each "
             "weight's size and row.", "1", "the same within cells of size and row", low=0,
             pitfall="Rows of shared scale overlap by themselves: set a claim on the ratio to this one."),
    share("jaccard_chance", "Jaccard index, by chance", "The index of two independent masks of these densities.",
          formula="p q / (p + q - p q)"),
)  # fmt: skip
LAB = (
    word("recipe", "recipe", "The way a model of the lab was trained."),
    count("seeds", "seeds", "How many runs of the recipe, each with its own data order and samples."),
    Quantity("learning_rate", "learning rate", "The optimizer's learning rate, constant over the run.", "1", low=0, log=True),
    share("accuracy", "accuracy", "Problems answered to the letter, greedily, by the model as saved in bf16.",
          pitfall="Of 2,000 problems: differences below about 1 % are within sampling."),
    share("test", "accuracy", "Test problems answered to the letter, greedily, by the model as saved in bf16."),
    share("test_spread", "spread of accuracy", "Standard deviation over seeds; all start from one base."),
    share("comparison", "accuracy, other task", "Accuracy on comparisons, which no recipe trains for."),
    share("unchanged_absolute", "unchanged, 1e-5", "Share of coordinates with |D| <= 1e-5, as bf16.", source=A),
    share("unchanged_exact", "unchanged, exactly", "Share of coordinates with D = 0, as bf16."),
    share("mask_density", "density of the mask", "Share of coordinates that the run was allowed to move."),
    Quantity("cv_sqrt_v", "spread of root v", "How unequal AdamW's step sizes are: coefficient of variation of sqrt(v).", "1",
             "std(sqrt v) / mean(sqrt v), v the running mean of squared gradients", low=0,
             pitfall="At 0 AdamW is SGD with another learning rate."),
    *(share(f"coverage_{mask}_{end}", f"{label}, {text}", f"{text.capitalize()} of what blind updates of these weights give.")
      for mask, label in (("principal", "moved on principal weights"), ("low_magnitude", "moved on small weights"))
      for end, text in (("null_low", "low end"), ("null_high", "high end"))),
    *(Quantity(f"{name}_chance", f"{label}, by chance", "The same for a blind update.", unit, low=0)
      for name, label, unit in (("top16_energy", "energy of the top 16", "share"), ("stable_rank", "stable rank", "1"),
                                ("projection_joint", "joint projection", "share"))),
)  # fmt: skip
QUANTITIES = {
    q.name: q
    for q in (
        *PLACES,
        *MAGNITUDE,
        *SPARSITY,
        *CONCENTRATION,
        *SPECTRUM,
        *GEOMETRY,
        *COORDINATES,
        *GROUPED,
        *BY_TENSOR,
        *RUNS,
        *LAB,
    )
}


def axis_title(name: str, *, suffix: str = "") -> str:
    """A quantity's label with its unit, for an axis.

    >>> axis_title("degrees")
    'principal angle (degrees)'
    """
    quantity = QUANTITIES[name]
    unit = f" ({quantity.unit})" if quantity.unit not in ("", "1", "count", "share") else ""
    return quantity.label + unit + suffix
