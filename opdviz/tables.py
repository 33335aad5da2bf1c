"""Tidy tables of a comparison: the stored ones, `tensors` with its ranks joined, and groups computed from them."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opdviz import store as stores
from opdviz.errors import RequestError, one_line
from opdviz.store import Store

STORED = (
    "sparsity", "steps", "concentration", "spectrum", "spectrum_summary", "rank", "top_energy", "projection", "rotation",
    "angle", "drift", "basis_energy", "coverage", "histogram", "profile", "rows", "skipped", "unmatched", "rewrites",
)  # fmt: skip
GROUPS = {
    "blocks": ["tower", "block"],
    "layers": ["tower", "layer"],
    "modules": ["tower", "block", "module"],
}
TABLES = ("tensors", *GROUPS, *STORED)
HEADLINE_THRESHOLD = 1e-5
HEADLINE_SHARE = 0.1
HEADLINE_K = 16
TAIL_FACTOR = 1.5


def table(store: Store, key: str, name: str, *, where: pc.Expression | None = None) -> pd.DataFrame:
    """One tidy table of a comparison; an empty frame where nothing of it is there yet. `where` keeps rows of a stored one.

    Raises
        RequestError: no such table.
    """
    if name in GROUPS:
        return groups(store, key, name)
    if name == "tensors":
        return tensors(store, key)
    if name not in STORED:
        raise RequestError(f"table {one_line(name, limit=40)!r} is unknown; there are: {', '.join(TABLES)}.")
    return frame(stores.sorted_rows(stores.read(store, key, name, where=where)))


def of_tensor(store: Store, key: str, name: str, tensor: str) -> pd.DataFrame:
    """The rows of a stored table that speak of one tensor; a large store is not read as a whole for them."""
    return table(store, key, name, where=pc.field("name") == tensor)


def frame(rows: pa.Table) -> pd.DataFrame:
    """Arrow rows as pandas: whole numbers with missing values stay whole."""
    kinds = {pa.int64(): pd.Int64Dtype()}
    result = rows.to_pandas(types_mapper=kinds.get)
    return result.astype({c: "int64" for c in result if result[c].dtype == "Int64" and not result[c].hasnans})


def tensors(store: Store, key: str) -> pd.DataFrame:
    """One row a pair: place, sizes, and the delta's ranks where they are known."""
    found = frame(stores.sorted_rows(stores.read(store, key, "tensors")))
    if found.empty:
        return found
    summary = table(store, key, "spectrum_summary", where=pc.field("matrix") == "delta")
    ranks = ["stable_rank", "entropy_rank"]
    if summary.empty:
        return found.assign(**dict.fromkeys(ranks, float("nan")))
    return found.merge(summary[["name", *ranks]], on="name", how="left")


def countable(rows: pd.DataFrame) -> pd.Series:
    """Which tensors enter totals: all coordinates finite and every norm known, so that all sums are over the same ones."""
    return (rows["nonfinite"] == 0) & rows["base_norm"].notna() & rows["delta_norm"].notna()


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The tensors that enter totals."""
    return rows[countable(rows)]


def headline_precision(rows: pd.DataFrame) -> str:
    """bfloat16 where coordinates were also counted so, `stored` otherwise (then stored is bf16 or narrower)."""
    return "bfloat16" if (rows["precision"] == "bfloat16").any() else "stored"


def at_headline_precision(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each tensor as bf16: its bfloat16 rows, or its stored ones where it is stored no wider."""
    wide = set(rows.loc[rows["precision"] == "bfloat16", "name"])
    return rows[(rows["precision"] == "bfloat16") | ~rows["name"].isin(wide)]


def quantities_by_tensor(store: Store, key: str) -> pd.DataFrame:
    """`tensors` with every headline quantity of a tensor as a column, beside its chance."""
    found = tensors(store, key)
    if found.empty:
        return found
    sparsity = table(store, key, "sparsity")
    if not sparsity.empty:
        sparsity = at_headline_precision(sparsity)
        for probe, threshold in (("absolute", HEADLINE_THRESHOLD), ("relative", 1e-3), ("exact", 0.0)):
            part = sparsity[(sparsity["probe"] == probe) & (sparsity["threshold"] == threshold)]
            part = part.rename(columns={"unchanged": f"unchanged_{probe}", "share": f"sparsity_{probe}"})
            found = found.merge(part[["name", f"unchanged_{probe}", f"sparsity_{probe}"]], on="name", how="left")
    for name, rows in spectral_columns(store, key).items():
        found = found.merge(rows, on="name", how="left", suffixes=("", f"_{name}"))
    return found


def spectral_columns(store: Store, key: str) -> dict[str, pd.DataFrame]:
    """Headline quantities of the second pass by name: columns to join on `name`."""
    found = {}
    delta, gaussian = pc.field("matrix") == "delta", pc.field("matrix") == "gaussian"
    headline = pc.field("share") == HEADLINE_SHARE
    if not (top := table(store, key, "top_energy", where=delta & (pc.field("k") == HEADLINE_K))).empty:
        found["top"] = top[["name", "energy", "chance"]].set_axis(["name", "top16_energy", "top16_chance"], axis=1)
    if not (summary := table(store, key, "spectrum_summary", where=gaussian)).empty:
        found["gaussian"] = summary[["name", "stable_rank"]].set_axis(["name", "stable_rank_chance"], axis=1)
    if not (projection := table(store, key, "projection", where=headline)).empty:
        for side in ("joint", "left", "right"):
            part = projection[projection["side"] == side]
            columns = ["name", f"projection_{side}", f"projection_{side}_chance"]
            found[side] = part[["name", "energy", "chance"]].set_axis(columns, axis=1)
    if not (rotation := table(store, key, "rotation", where=headline)).empty:
        for side in ("left", "right"):
            part = rotation[rotation["side"] == side]
            columns = ["name", f"rotation_{side}", f"rotation_{side}_chance"]
            found[f"rotation_{side}"] = part[["name", "rms_sine", "chance"]].set_axis(columns, axis=1)
    if not (drift := table(store, key, "drift")).empty:
        found["drift"] = drift[["name", "nss", "chance"]].set_axis(["name", "nss", "nss_chance"], axis=1)
    at = headline & (pc.field("probe") == "absolute") & (pc.field("threshold") == HEADLINE_THRESHOLD)
    if not (coverage := table(store, key, "coverage", where=at)).empty:
        found |= coverage_columns(at_headline_precision(coverage))
    return found


def coverage_columns(coverage: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Coverage by tensor, a column group a mask; the rows are those of the headline's share, probe and threshold."""
    kept = ["coverage", "chance", "lowest", "highest", "null_low", "null_high"]
    return {
        mask: coverage.loc[coverage["mask"] == mask, ["name", *kept]].set_axis(
            ["name", *(f"{mask}_{c}" for c in kept)], axis=1
        )
        for mask in ("principal", "low_magnitude")
    }


def groups(store: Store, key: str, name: str) -> pd.DataFrame:
    """One row a group of tensors: sizes summed, shares of energy and parameters, medians over its moved matrices.

    Tensors with NaN or Inf are left out of every sum and counted in `left_out`.
    """
    tensors_ = quantities_by_tensor(store, key)
    if tensors_.empty:
        return pd.DataFrame()
    clean = counted(tensors_)
    total, parameters = float((clean["delta_norm"] ** 2).sum()), int(clean["numel"].sum())
    by = GROUPS[name]
    rows = [
        dict(zip(by, group)) | group_row(part, total, parameters)
        for group, part in tensors_.groupby(by, dropna=False, sort=True)
    ]
    result = pd.DataFrame(rows)
    return result.astype({"layer": "Int64"}) if "layer" in by else result


MEDIANS = {
    "top16_energy": "top16_energy",
    "stable_rank": "stable_rank",
    "entropy_rank": "entropy_rank",
    "coverage_principal": "principal_coverage",
    "coverage_low_magnitude": "low_magnitude_coverage",
    "projection_joint": "projection_joint",
}


def group_row(part: pd.DataFrame, total: float, parameters: int) -> dict:
    """The summary of one group's tensors."""
    clean = counted(part)
    delta, base = float((clean["delta_norm"] ** 2).sum()), float((clean["base_norm"] ** 2).sum())
    numel = int(clean["numel"].sum())
    energy, parameter = (delta / total if total else None), (numel / parameters if parameters else None)
    row = {
        "tensors": len(part),
        "tensors_moved": int((part["moved"] > 0).sum()),
        "left_out": len(part) - len(clean),
        "numel": numel,
        "moved": int(clean["moved"].sum()),
        "relative_norm": (delta / base) ** 0.5 if base else None,
        "energy_share": energy,
        "parameter_share": parameter,
        "enrichment": energy / parameter if energy is not None and parameter else None,
    }
    for probe in ("absolute", "relative"):
        column = f"unchanged_{probe}"
        known = column in clean and numel
        row[f"sparsity_{probe}"] = float(clean[column].sum()) / numel if known else None
    moved = clean[clean["moved"] > 0]
    for label, column in MEDIANS.items():
        value = moved[column].median() if column in moved else None
        row[label] = None if value is None or pd.isna(value) else float(value)
    return row


def tail_ratios(store: Store, key: str) -> pd.Series:
    """By tensor: norm of delta's spectrum beyond index 32 over that of its rounding null, at the stored indices.

    Within TAIL_FACTOR of one, the tail cannot be told from what storing a rank-16 update would leave.
    """
    beyond = pc.field("matrix").isin(["delta", "rounding_null"]) & (pc.field("index") > 32)
    tail = stores.read(store, key, "spectrum", where=beyond)
    if not tail.num_rows:
        return pd.Series(dtype=float)
    squares = tail.append_column("square", pc.power(tail["sigma"], 2)).select(["name", "matrix", "square"])
    sums = squares.group_by(["name", "matrix"]).aggregate([("square", "sum")]).to_pandas()
    norms = sums.pivot(index="name", columns="matrix", values="square_sum").sort_index()
    if "rounding_null" not in norms:
        return pd.Series(dtype=float)
    return ((norms["delta"] / norms["rounding_null"]) ** 0.5).dropna()


def moved_given_size(store: Store, key: str, *, name: str | None = None, threshold: float = 0.0) -> pd.DataFrame:
    """Bins of |W| with count, moved and null_moved, as bf16 where that was counted: of one tensor or of all summed."""
    where = (pc.field("of") == "base") & (pc.field("threshold") == threshold)
    rows = table(store, key, "histogram", where=where if name is None else where & (pc.field("name") == name))
    if rows.empty:
        return rows
    return at_headline_precision(rows).groupby(["low", "high"], as_index=False)[["count", "moved", "null_moved"]].sum()


def by_element(rows: pd.DataFrame, tensors_: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Shares over all coordinates by some columns, each tensor weighted by its elements.

    A tensor stored no wider than bf16 has only `stored` rows; it counts in both precisions.
    """
    if rows.empty:
        return pd.DataFrame(columns=[*by, "share"])
    count = "unchanged" if "unchanged" in rows else "count"
    rows = rows[rows["name"].isin(counted(tensors_)["name"])]
    if (rows["precision"] == "bfloat16").any():
        wide = set(rows.loc[rows["precision"] == "bfloat16", "name"])
        rows = pd.concat([rows, rows[~rows["name"].isin(wide)].assign(precision="bfloat16")])
    rows = rows.merge(tensors_[["name", "numel"]], on="name")
    sums = rows.groupby(by, as_index=False, sort=True)[[count, "numel"]].sum()
    sums["share"] = sums[count] / sums["numel"]
    order = {"exact": 0, "absolute": 1, "relative": 2, "base_rms": 3}
    if "probe" in sums:
        sums = sums.sort_values(
            ["precision", "probe", "threshold"], key=lambda c: c.map(order) if c.name == "probe" else c
        )
    return sums.sort_values("precision", ascending=False, kind="stable")


def like_rounding(ratios: pd.Series) -> pd.Series:
    """Which of `tail_ratios` cannot be told from rounding."""
    return ratios.between(1 / TAIL_FACTOR, TAIL_FACTOR)


def focus(store: Store, key: str, name: str) -> None:
    """While a comparison runs, ask for the tensor that someone looks at to go first."""
    if stores.running(store.folder(key)):
        stores.write(store.folder(key) / "focus", name.encode())


def records(frame: pd.DataFrame) -> list[dict]:
    """Rows as plain dicts, missing values as `None`: what JSON can carry."""
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.astype(object).to_dict("records")]


def done_share(store: Store, key: str) -> float:
    """The share of a comparison's parts that are computed, between 0 and 1."""
    manifest = store.manifest(key)
    compacted = len(manifest.get("compacted", [])) * manifest.get("pairs", 0)
    wanted = manifest.get("pairs", 0) * manifest.get("measures", 1)
    return min(1.0, (compacted + stores.part_count(store, key)) / wanted) if wanted else 0.0


def state(store: Store, key: str) -> str:
    """running, done, failed or partial."""
    manifest = store.manifest(key)
    if stores.running(store.folder(key)):
        return "running"
    if len(manifest.get("compacted", [])) >= manifest.get("measures", 1):
        return "done"
    return "failed" if manifest.get("failure") else "partial"


def listing(store: Store) -> list[dict]:
    """One row a comparison of the cache, newest first."""
    rows = []
    for key in store.keys():
        manifest = store.manifest(key)
        rows.append(
            {
                "key": key,
                "name": manifest.get("name", key),
                "base": manifest.get("base", {}).get("label"),
                "tuned": manifest.get("tuned", {}).get("label"),
                "state": state(store, key),
                "pairs": manifest.get("pairs"),
                "parameters": manifest.get("parameters"),
                "done_share": done_share(store, key),
                "bytes": store.size(key),
            }
        )
    return rows
