"""What each command does, in the order of the parser; imports stand inside, as in `cli`."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from opdviz.errors import CheckFailed, RequestError, one_line

MOST_WORKERS = 256
MOST_LINES = 200


def store_of(options: argparse.Namespace):
    """The store that the options or the environment name."""
    from opdviz.store.store import Store

    root = Path(options.cache or os.environ.get("OPDVIZ_CACHE") or "cache")
    try:
        why = "a file" if root.exists() and not root.is_dir() else ""
    except OSError as error:  # a name longer than the disk takes, or a folder that may not be read
        why = (error.strerror or "no usable name").lower()
    if why or "\0" in str(root):
        raise RequestError(f"--cache {one_line(root)}: found {why or 'a NUL'}; expected a folder.")
    return Store(root)


def open_pair(options: argparse.Namespace):
    """Both checkpoints, opened."""
    from opdviz import checkpoint

    if not 1 <= options.workers <= MOST_WORKERS:
        raise RequestError(f"--workers: found {options.workers}; expected 1 to {MOST_WORKERS}.")
    base, tuned = checkpoint.open(options.base), checkpoint.open(options.tuned)
    base.notes += checkpoint.tokens_note(base.path)
    return base, tuned


def print_json(value: object, *, indent: int | None = 1) -> None:
    """One JSON value on stdout."""
    print(json.dumps(value, indent=indent, allow_nan=False))


def check(options: argparse.Namespace) -> None:
    """`opdviz check`."""
    from opdviz.compare.estimate import preview
    from opdviz.words import duration

    facts = preview(*open_pair(options), options.workers)
    if options.json:
        many = len(facts["unmatched"]) + len(facts["rewrites"]) > MOST_LINES
        print_json(facts, indent=None if many else 1)  # a million rows in lines of their own take half a minute
        return
    pairs, seconds, gigabytes = facts["pairs"], facts["seconds"], facts["bytes"] / 1e9
    print(f"{pairs:,} pairs, {facts['parameters']:,} parameters, {len(facts['unmatched'])} left over.")
    print(f"About {duration(seconds)} and {gigabytes:.1f} GB with {options.workers} workers.")
    print("Stored as " + ", ".join(f"{dtype} ({count})" for dtype, count in facts["dtypes"].items()) + ".")
    if facts["same"]:
        print("Both are the same folder: nothing will have moved.")
    for note in facts["notes"]:
        print(note)
    for row in shown(facts["rewrites"]):
        detail = f"{row['rule']}: {one_line(row['detail'])}"
        print(f"  {one_line(row['name'])} = {one_line(row['tuned_name'])} ({detail})")
    for row in shown(facts["unmatched"]):
        print(f"  left over: {one_line(row['name'])} ({row['shape']}): {row['reason']}")


def shown(rows: list[dict]) -> Iterator[dict]:
    """The first of many rows, and then a line that says how many more there are."""
    yield from rows[:MOST_LINES]
    if len(rows) > MOST_LINES:
        print(f"  ... and {len(rows) - MOST_LINES:,} more; --json lists them all.")


def compare(options: argparse.Namespace) -> None:
    """`opdviz compare`."""
    from opdviz import pairing
    from opdviz.compare import measuring, prepare, progress, workers
    from opdviz.store.store import checked_name
    from opdviz.tables import protocols, summaries

    store = store_of(options)
    with progress.listener(options.job, quiet=options.json) as listener:
        if options.device != "cpu":
            raise RequestError(
                f"--device: found {one_line(options.device, limit=20)!r}; this version computes on cpu only."
            )
        if options.name is not None:
            checked_name(options.name)
        measures = measuring.chosen_measures(options.measures.split(",") if options.measures is not None else None)
        base, tuned = open_pair(options)
        measuring.chosen_pairs(pairing.match(base, tuned).pairs, options.tensors)  # refused before a file is read
        comparison = prepare.prepare(base, tuned, store, options.name, listener)
        listener.note_key(comparison.key)
        with workers.pool(options.workers) as executor:
            manifest = measuring.compare(
                comparison, store, executor, measures=measures, pattern=options.tensors, listener=listener
            )
        summaries.write_all(store, comparison.key)
    rows = protocols.headline(store, comparison.key)
    values = {row["quantity"]: row["value"] for row in rows}
    result = {"key": manifest["key"], "name": manifest["name"], "pairs": manifest["pairs"]}
    result |= {"parameters": manifest["parameters"]} | values
    if options.json:
        print_json(result)
        return
    print(f"{one_line(manifest['name'])}  {manifest['key']}")
    print(f"{manifest['pairs']:,} pairs, {manifest['parameters']:,} parameters.")
    for row in rows:
        print("  " + headline_line(row))


def headline_line(row: dict) -> str:
    """One headline number as text."""
    value = "not computed" if row["value"] is None else f"{row['value']:.4g} {row['unit']}".removesuffix(" 1")
    chance = "" if row["chance"] is None else f"   chance {row['chance']:.4g}"
    return f"{row['quantity']:32s} {value:>14s}{chance}   ({row['aggregation']})"


def list_(options: argparse.Namespace) -> None:
    """`opdviz list`."""
    from opdviz.store import status

    rows = status.listing(store_of(options))
    if options.json:
        print_json(rows)
        return
    if not rows:
        print("No comparison yet. `opdviz compare BASE TUNED` makes one.")
    for key in map(one_line, store_of(options).damaged()):
        print(f"{key}  damaged: manifest.json cannot be read; compare the pair again, or `opdviz forget {key}`.")
    for row in rows:
        size, share = f"{row['bytes'] / 1e6:.1f} MB", f"{row['done_share']:4.0%} {row['pairs']:6,} pairs"
        print(f"{row['key']}  {row['state']:8s} {share} {size:>9s}  {one_line(row['name'])}")


def show(options: argparse.Namespace) -> None:
    """`opdviz show`."""
    import io

    from opdviz import tables
    from opdviz.tables import stored

    store = store_of(options)
    frame = tables.table(store, store.resolve(options.key), options.table)
    if options.format == "parquet":
        if options.out is None:
            raise RequestError("show: --format parquet needs --out FILE; Parquet is not for a terminal.")
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        data = buffer.getvalue()
    elif options.format == "json":
        data = (json.dumps(stored.records(frame), allow_nan=False) + "\n").encode()
    else:
        data = frame.to_csv(index=False).encode()
    if options.out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    from opdviz import files

    files.write(target_of("show", options.out), data)


def target_of(command: str, out: Path) -> Path:
    """The file that --out stands for; a link keeps being one, what it points to is written.

    Raises
        RequestError: it is a folder or a device, or its folder is not there.
    """
    try:
        target = out.resolve()
        found = "a folder or device" if target.exists() and not target.is_file() else ""
        found = found or ("" if target.parent.is_dir() else "no such folder")
    except (OSError, RuntimeError, ValueError):  # links in a circle; a name longer than the disk takes, or with a NUL
        found = "no usable name"
    if found:
        raise RequestError(f"{command} --out {one_line(out)}: found {found}; expected the name of a file in a folder.")
    return target


def headline(options: argparse.Namespace) -> None:
    """`opdviz headline`."""
    from opdviz.tables import protocols, published

    store = store_of(options)
    rows = protocols.headline(store, store.resolve(options.key), options.protocol)
    if options.json:
        print_json(rows)
        return
    if not rows:
        print("Not computed yet: the headline needs the measure magnitude.")
    for row in rows:
        print(headline_line(row))
        for other in published.rows(row["quantity"], protocol=options.protocol):
            print(f"    published  {other['value']:>10.4g} {other['unit']}   {other['recipe']}: {other['pair']}")


def verify(options: argparse.Namespace) -> None:
    """`opdviz verify`."""
    from opdviz.compare import sources
    from opdviz.store import board, checking
    from opdviz.tables import summaries

    store = store_of(options)
    keys = store.folders() if options.key is None else [store.resolve(options.key)]
    sentences = [] if options.key is not None else list(map(str, checking.between(store)))
    for key in keys:
        sentences += map(str, [*checking.check(store, key), *summaries.check(store, key), *board.check(store, key)])
        if options.content and store.manifest(key):
            sentences += [f"{key}: {sentence}" for sentence in sources.changes(store, key, fresh=True)]
    for sentence in sentences:
        print(one_line(sentence, limit=600))
    if sentences:
        raise CheckFailed(f"verify: {len(sentences)} faults; `opdviz compare` recomputes what is damaged.")
    print(f"{len(keys)} comparisons, no fault.")


def rename(options: argparse.Namespace) -> None:
    """`opdviz rename`."""
    from opdviz import files
    from opdviz.store.store import checked_name

    store = store_of(options)
    key = store.resolve(options.key)
    name = checked_name(options.name)
    with files.lock(store.folder(key)):  # a run that goes on would write its own manifest over this one
        store.write_manifest(key, store.sound_manifest(key) | {"name": name})


def forget(options: argparse.Namespace) -> None:
    """`opdviz forget`."""
    store = store_of(options)
    for key in [store.resolve(word) for word in options.key]:
        store.forget(key)


def block(options: argparse.Namespace) -> None:
    """`opdviz block`."""
    from opdviz.runs import values

    store = store_of(options)
    print(
        values.keep_block(store, store.resolve(options.key), options.tensor, options.row, options.column, options.size)
    )


def app(options: argparse.Namespace) -> None:
    """`opdviz app`: replaces this process by Streamlit's server."""
    script = Path(__file__).resolve().parent.parent / "app.py"
    if not script.is_file():
        raise RequestError("app: app.py is not beside the package; run it from a checkout or an editable install.")
    cache = store_of(options).root.resolve()
    os.environ["OPDVIZ_CACHE"] = str(cache)
    if options.roots:
        missing = [r for r in options.roots if not os.path.isdir(r)]
        if missing:
            raise RequestError(f"app --roots: {one_line(missing[0])} is no folder.")
        os.environ["OPDVIZ_ROOTS"] = os.pathsep.join(str(r.resolve()) for r in options.roots)
    if options.demo:
        start_demo(options)
    if options.read_only:
        os.environ["OPDVIZ_READ_ONLY"] = "1"
    os.chdir(script.parent)
    os.execv(sys.executable, [sys.executable, "-m", "opdviz.serve", "run", "app.py", *options.streamlit])


def start_demo(options: argparse.Namespace) -> None:
    """Start the demonstration pair's job where it is not in the cache yet."""
    from opdviz import demo, jobs

    store, pair = store_of(options), demo.pair()
    if pair is None:
        raise RequestError("app --demo: the demo packages are missing; pip install --no-deps -r requirements-demo.txt")
    if not any(store.manifest(key).get("name") == demo.NAME for key in store.keys()):
        jobs.start(store, *pair, name=demo.NAME)
