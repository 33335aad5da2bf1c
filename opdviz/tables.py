"""Tidy tables of a comparison: the stored ones, `tensors` with its ranks joined, and groups computed from them."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from opdviz import store as stores
from opdviz.errors import RequestError, one_line
from opdviz.store import Store

STORED = (
    "sparsity", "steps", "concentration", "spectrum", "spectrum_summary", "tail", "rank", "top_energy", "projection", "rotation",
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
WIDE = ("float32", "float64")


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


def at_headline_precision(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of each tensor as bf16: its bfloat16 rows, or its stored ones where it is stored no wider."""
    wide = set(rows.loc[rows["precision"] == "bfloat16", "name"])
    return rows[(rows["precision"] == "bfloat16") | ~rows["name"].isin(wide)]


def counted_as(rows: pd.DataFrame) -> pd.Series:
    """The format that each tensor's coordinates are counted in: bfloat16 where a side is stored wider, else the tuned's."""
    wide = rows["base_dtype"].isin(WIDE) | rows["tuned_dtype"].isin(WIDE)
    return rows["tuned_dtype"].where(~wide, "bfloat16")


def quantities_by_tensor(store: Store, key: str) -> pd.DataFrame:
    """`tensors` with every headline quantity of a tensor as a column, beside its chance."""
    rows = tensors(store, key)
    if rows.empty:
        return rows
    rows = rows.assign(counted_as=counted_as(rows))
    sparsity = table(store, key, "sparsity")
    if not sparsity.empty:
        sparsity = at_headline_precision(sparsity)
        for probe, threshold in (("absolute", HEADLINE_THRESHOLD), ("relative", 1e-3), ("exact", 0.0)):
            part = sparsity[(sparsity["probe"] == probe) & (sparsity["threshold"] == threshold)]
            part = part.rename(columns={"unchanged": f"unchanged_{probe}", "share": f"sparsity_{probe}"})
            rows = rows.merge(part[["name", f"unchanged_{probe}", f"sparsity_{probe}"]], on="name", how="left")
    for name, columns in spectral_columns(store, key).items():
        rows = rows.merge(columns, on="name", how="left", suffixes=("", f"_{name}"))
    return rows


def spectral_columns(store: Store, key: str) -> dict[str, pd.DataFrame]:
    """Headline quantities of the second pass by name: columns to join on `name`."""
    delta, gaussian = pc.field("matrix") == "delta", pc.field("matrix") == "gaussian"
    headline = pc.field("share") == HEADLINE_SHARE
    top = table(store, key, "top_energy", where=delta & (pc.field("k") == HEADLINE_K))
    noise = table(store, key, "spectrum_summary", where=gaussian)
    joined = {
        "top": renamed(top, {"energy": "top16_energy", "chance": "top16_chance"}),
        "gaussian": renamed(noise, {"stable_rank": "stable_rank_chance"}),
        "tail": renamed(table(store, key, "tail"), {"position": "position", "verdict": "verdict"}),
        "drift": renamed(table(store, key, "drift"), {"nss": "nss", "chance": "nss_chance"}),
    }
    projection = table(store, key, "projection", where=headline)
    extra = {"chance": "chance", "chance_sd": "sd", "chance_profile": "profile"}
    for side in ("joint", "left", "right") if len(projection) else ():
        name = f"projection_{side}"
        columns = {"energy": name} | {column: f"{name}_{end}" for column, end in extra.items()}
        joined[name] = renamed(projection[projection["side"] == side], columns)
    rotation = table(store, key, "rotation", where=headline)
    for side in ("left", "right") if len(rotation) else ():
        name = f"rotation_{side}"
        columns = {"rms_sine": name, "chance": f"{name}_chance", "pairs": f"{name}_pairs"}
        joined[name] = renamed(rotation[rotation["side"] == side], columns)
    at = headline & (pc.field("probe") == "absolute") & (pc.field("threshold") == HEADLINE_THRESHOLD)
    coverage = table(store, key, "coverage", where=at)
    if len(coverage):
        joined |= coverage_columns(at_headline_precision(coverage))
    return {name: columns for name, columns in joined.items() if len(columns)}


def renamed(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """`name` and some columns under other names; empty where there are no rows."""
    return rows[["name", *columns]].rename(columns=columns) if len(rows) else rows


def coverage_columns(coverage: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Coverage by tensor, a column group a mask; the rows are those of the headline's share, probe and threshold.

    `typical` is the middle of what typical blind updates cover: the level that a coverage stands beside.
    """
    coverage = coverage.assign(typical=(coverage["null_low"] + coverage["null_high"]) / 2)
    kept = (
        "coverage", "chance", "typical", "lowest", "highest", "null_low", "null_high", "blind_low", "blind_high", "visible",
    )  # fmt: skip
    return {
        mask: renamed(coverage[coverage["mask"] == mask], {column: f"{mask}_{column}" for column in kept})
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


def share_unchanged(rows: pd.DataFrame, probe: str) -> float | None:
    """Share of the coordinates that a probe calls unchanged, over the tensors that it looked at; `None` without any."""
    column = f"unchanged_{probe}"
    known = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    total = float(known["numel"].sum())
    return float(known[column].sum()) / total if total else None


def matrices(rows: pd.DataFrame) -> pd.DataFrame:
    """The tensors that have directions: two axes, both longer than one."""
    return rows[(rows["rows"] > 1).fillna(False).astype(bool) & (rows["columns"] > 1).fillna(False).astype(bool)]


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
        row[f"sparsity_{probe}"] = share_unchanged(clean, probe)
    moved = clean[clean["moved"] > 0]
    for label, column in MEDIANS.items():
        value = moved[column].median() if column in moved else None
        row[label] = None if value is None or pd.isna(value) else float(value)
    return row


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
    if stores.outdated(manifest):
        return 0.0
    compacted = len(manifest.get("compacted", [])) * manifest.get("pairs", 0)
    wanted = manifest.get("pairs", 0) * manifest.get("measures", 1)
    return min(1.0, (compacted + stores.part_count(store, key)) / wanted) if wanted else 0.0


def state(store: Store, key: str) -> str:
    """running, done, failed or partial."""
    manifest = store.manifest(key)
    if stores.running(store.folder(key)):
        return "running"
    if stores.outdated(manifest):
        return "partial"
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
