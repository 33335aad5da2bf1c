"""Stores as large as those of real models, made from the rows of a small real comparison: only
names and noise are new.

python -m tests.bench.stores FOLDER TENSORS          writes a cache with one comparison of about so
many tensors python -m tests.bench.stores FOLDER TENSORS --half   the same while it is computed:
half of it is there, in bundles
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from opdviz import checkpoint, fingerprint, measures
from opdviz.engine import measuring, prepare
from opdviz.engine.workers import pool
from opdviz.naming import parse
from opdviz.store import bundles
from opdviz.store.columns import NAMES, PAIRING_TABLES, PAIRS, typed
from opdviz.store.parquet import ROW_GROUP
from opdviz.store.reading import read, read_compacted
from opdviz.store.store import Store, Stored
from opdviz.tables import summaries
from tests.conftest import GOLDEN

EXPERTS = 128
MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
            "mlp.down_proj")  # fmt: skip
VECTORS = ("input_layernorm", "post_attention_layernorm")
SHARES = {"energy", "coverage", "rms_sine", "cosine"}
NOISY = SHARES | {
    "relative_norm",
    "delta_norm",
    "delta_rms",
    "delta_max",
    "stable_rank",
    "entropy_rank",
    "nss",
}
OUTSIDE = ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")


def names(tensors: int) -> list[str]:
    """Names of a dense model, or beyond a thousand tensors of a mixture of experts, with about so
    many tensors.
    """
    sparse = tensors > 1_000
    inner = MATRICES[:4] if sparse else MATRICES
    a_layer = [f"{m}.weight" for m in (*inner, *VECTORS)]
    if sparse:
        a_layer += ["mlp.gate.weight"] + [
            f"mlp.experts.{e}.{p}_proj.weight"
            for e in range(EXPERTS)
            for p in ("gate", "up", "down")
        ]
    layers = max(1, round((tensors - len(OUTSIDE)) / len(a_layer)))
    return [f"model.layers.{i}.{name}" for i in range(layers) for name in a_layer] + list(OUTSIDE)


def template(name: str) -> str:
    """The tensor of the small comparison whose rows a name gets."""
    if name in OUTSIDE:
        return name
    layer, tail = int(name.split(".")[2]), name.split(".", 3)[3]
    tail = (
        "mlp." + tail.split(".")[-2] + ".weight"
        if ".experts." in tail
        else tail.replace("mlp.gate.", "mlp.gate_proj.")
    )
    return f"model.layers.{layer % 3}.{tail}"


def spread(rows: pa.Table, wanted: list[str]) -> pa.Table:
    """Rows of the small comparison for every wanted name: its template's, with the name's own place
    and a noise of its own.
    """
    own = rows["name"].to_numpy(zero_copy_only=False)
    at = {name: np.flatnonzero(own == name) for name in set(own)}
    pieces = [at.get(template(name), np.zeros(0, dtype=np.int64)) for name in wanted]
    lengths = [len(piece) for piece in pieces]
    made = rows.take(pa.array(np.concatenate(pieces).astype(np.int64)))
    noise = np.exp(np.random.default_rng(0).normal(0.0, 0.4, len(wanted)))
    places = [parse(name) for name in wanted]
    fresh = {"name": wanted} | {
        f: [getattr(p, f) for p in places] for f in ("layer", "block", "module", "tower", "expert")
    }
    for column, field in [(c, made.schema.field(c)) for c in made.column_names]:
        if column in fresh:
            values = np.repeat(np.array(fresh[column], dtype=object), lengths)
            made = made.set_column(
                made.column_names.index(column), field, pa.array(values, type=field.type)
            )
        elif column in NOISY and field.type == pa.float64():
            values = made[column].to_numpy() * np.repeat(noise, lengths)
            values = np.minimum(values, 1.0) if column in SHARES else values
            made = made.set_column(
                made.column_names.index(column), field, pa.array(values, from_pandas=True)
            )
    return made


def keep(folder: Path, name: str, rows: pa.Table) -> str:
    """Write one table as a run does; its digest."""
    path = folder / "tables" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd", row_group_size=ROW_GROUP)
    return fingerprint.of_file(path)


def build(root: Path, tensors: int, name: str = "large") -> str:
    """Write a cache with one finished comparison of about so many tensors; its key."""
    with tempfile.TemporaryDirectory() as small:
        little = Store(Path(small))
        base, tuned = (checkpoint.open(GOLDEN / side) for side in ("base", "tuned_b"))
        prepared = prepare.prepare(base, tuned, little, "small", lambda _: None)
        with pool(1) as executor:
            small_one = measuring.compare(prepared, little, executor, listener=lambda _: None)
        wanted, digests = sorted(names(tensors)), {}
        key = fingerprint.of_bytes(name, str(tensors))[:16]
        folder = Store(root).folder(key)
        for file in [
            f"{table}.{made.NAME}.parquet" for made in measures.MEASURES for table in made.TABLES
        ]:
            digests[file] = keep(
                folder, file, spread(read_compacted(small_one.folder, file), wanted)
            )
    pairing = {table: typed(columns, []) for table, columns in PAIRING_TABLES.items()}
    pairing[PAIRS] = typed(NAMES, [{"name": tensor} for tensor in wanted])
    for table, rows in pairing.items():
        digests[f"{table}.pairing.parquet"] = bundles.write_table(
            folder, f"{table}.pairing.parquet", rows
        )
    facts = replace(small_one.manifest, key=key, name=name, pairs=len(wanted), tables=digests)
    comparison = Stored(folder, facts)
    comparison = comparison.changed(
        parameters=int(pc.sum(read(comparison, "tensors")["numel"]).as_py())
    )
    (root / "lab").mkdir(exist_ok=True)
    summaries.write_all(comparison)
    return key


def unfinish(root: Path, key: str) -> None:
    """Turn a finished comparison into one that is half computed, as a run leaves it: every table in
    bundles.
    """
    comparison = Store(root).open(key)
    folder, pairs = comparison.folder, comparison.manifest.pairs
    half = np.random.default_rng(0).permutation(pairs)[: pairs // 2]
    names = read(comparison, "tensors")["name"].take(half)
    digests, bundled = dict(comparison.manifest.tables), {}
    for m in measures.MEASURES:
        counts = bundled[measures.measure_id(m)] = {}
        paths = {table: folder / "tables" / f"{table}.{m.NAME}.parquet" for table in m.TABLES}
        rows = {table: pq.read_table(path) for table, path in paths.items()}
        for number, low in enumerate(range(0, len(names), bundles.BUNDLE)):
            some = names.slice(low, bundles.BUNDLE).combine_chunks()
            for table in m.TABLES:
                file = f"{table}.{m.NAME}.{number}.parquet"
                digests[file] = keep(
                    folder, file, rows[table].filter(pc.is_in(rows[table]["name"], some))
                )
            file = f"{PAIRS}.{m.NAME}.{number}.parquet"
            digests[file] = keep(folder, file, pa.table({"name": some}))
            counts[str(number)] = len(some)
        for path in paths.values():
            del digests[path.name]
            path.unlink()
    comparison.changed(compacted=(), bundled=bundled, tables=digests)


if __name__ == "__main__":
    made = build(Path(sys.argv[1]), int(sys.argv[2]))
    if sys.argv[3:] == ["--half"]:
        unfinish(Path(sys.argv[1]), made)
    print(made)
