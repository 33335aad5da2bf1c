"""The comparison that a page shows: found, cached, introduced; and what a page says where there is none."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import streamlit as st

from opdviz import demo, jobs, roots, tables
from opdviz.errors import OpdvizError
from opdviz.lab import shipped
from opdviz.store import board, status, values
from opdviz.store.status import part_count
from opdviz.store.store import Store
from opdviz.store.values import block_path
from opdviz.tables import by_tensor, stored, summaries
from opdviz.ui import address, links
from opdviz.ui.turns import stepped_out
from opdviz.views import Run, View, draw
from opdviz.words import count, format_name, percent, plain

POLL = "1s"
PARTS_POLL = "4s"
MOST_DAMAGED = 5


@dataclass(frozen=True)
class Chosen:
    """The comparison that a page shows."""

    store: Store
    key: str
    manifest: dict
    state: str

    @property
    def stamp(self) -> tuple:
        """What changes when more of the comparison is on disk: the key of everything cached.

        A run that makes bundles writes its manifest all the time; then the count says when there is enough more to draw.
        """
        count = coarse(part_count(self.store, self.key))
        if bundled := self.manifest.get("bundled"):
            return *self.manifest["compacted"], *sorted(bundled), count
        try:
            return (self.store.folder(self.key) / "manifest.json").stat().st_mtime_ns, count
        except OSError:
            return 0, count

    @cached_property
    def board(self) -> dict:
        """Its pins and notes; empty where they cannot be read, which the board's own page says."""
        try:
            return board.read(self.store, self.key)
        except OpdvizError:
            return board.EMPTY

    @cached_property
    def run(self) -> Run:
        """What views are drawn from."""
        where = (str(self.store.root), self.key, self.stamp)
        noted = frozenset(note["tensor"] for note in self.board["notes"])
        return Run(self.manifest, lambda name: cached_summary(*where, name), lambda t, name: cached_rows(*where, t, name),
                   lambda *at: read_block(self, *at), noted, self.state == "done")  # fmt: skip

    def view(self, name: str, state: dict) -> View:
        """A view in a state, drawn once for all sessions; nobody changes it. A block of values may be read in between."""
        if name == "pixels":
            return draw(name, self.run, state)
        known = json.dumps(state, sort_keys=True)
        return cached_view(
            str(self.store.root), self.key, (*self.stamp, self.run.noted, self.state), name, known, self.run
        )


def coarse(count: int) -> int:
    """A count to two digits, downwards: a page follows the first parts closely, and a long run now and then.

    >>> coarse(7), coarse(99), coarse(1234)
    (7, 99, 1200)
    """
    step = 10 ** max(0, len(str(count)) - 2)
    return count // step * step


@st.cache_resource(max_entries=300, show_spinner=False)
def cached_view(root: str, key: str, stamp: tuple, name: str, state: str, _run: Run) -> View:
    """A view by what it depends on."""
    return draw(name, _run, json.loads(state))


@st.cache_resource(max_entries=200, show_spinner=False)
def cached_summary(root: str, key: str, stamp: tuple, name: str) -> pd.DataFrame:
    """A summary by what it depends on: one frame for all sessions, which nobody changes."""
    return summaries.summary(Store(Path(root)), key, name)


@st.cache_resource(max_entries=1_000, show_spinner=False)
def cached_rows(root: str, key: str, stamp: tuple, table: str, tensor: str) -> pd.DataFrame:
    """One tensor's rows of a table, the same way; `moved_given_size` is its histogram of the base, summed over precisions."""
    if table == "moved_given_size":
        return by_tensor.moved_given_size(Store(Path(root)), key, name=tensor)
    return stored.of_tensor(Store(Path(root)), key, table, tensor)


@st.cache_resource(max_entries=200, show_spinner=False)
def cached_table(root: str, key: str, stamp: tuple, name: str) -> pd.DataFrame:
    """A whole table, the same way."""
    return tables.table(Store(Path(root)), key, name)


def store() -> Store:
    """The store of this server."""
    return Store(Path(os.environ.get("OPDVIZ_CACHE") or "cache").resolve())


def read_only() -> bool:
    """Whether nothing can be started or written from the pages."""
    return os.environ.get("OPDVIZ_READ_ONLY") == "1"


def need_comparison() -> Chosen:
    """The chosen comparison; without one the page says what to do and stops. While it runs, the page follows it."""
    key = address.shown()
    keys = store().keys()
    if key not in keys:
        if not keys and any(job.state == "running" for job in jobs.all_jobs(store())):
            st.header("The first comparison is on its way", anchor=False)
            st.fragment(wait_for_first, run_every=POLL)()
            links.end()
        if not keys and say_damaged():
            links.end()
        if not keys:
            st.header("Nothing to show yet", anchor=False)
            st.info("Nothing has been compared yet. Choose two checkpoints, or the demo pair, on the first page.")
            st.page_link("pages/open/comparisons.py", label="Compare two checkpoints", icon=":material/add:")
            links.end()
        address.ask()
        links.end()
    made = store()
    chosen = Chosen(made, key, made.manifest(key), status.state(made, key))
    if chosen.state == "running":
        st.fragment(follow, run_every=PARTS_POLL)(chosen, chosen.stamp)  # one at work in a terminal, as well as a job
    if chosen.state in ("partial", "failed"):
        share = status.done_share(made, key)
        going = any(job.state == "running" for job in jobs.all_jobs(made) if is_for(job, chosen.manifest))
        what = "is being taken up again" if going else f"is {chosen.state}"
        then = "" if going else " Compare the pair again to go on."
        st.warning(f"This comparison {what}: {share:.0%} of its parts are there.{then}")
    return chosen


def is_for(job: jobs.Job, manifest: dict) -> bool:
    """Whether a job compares the pair of a manifest; before it has the lock, while the files are read, the paths tell."""
    return job.id == jobs.job_id(manifest["base"]["path"], manifest["tuned"]["path"])


def say_damaged() -> bool:
    """Say which comparisons cannot be shown, because their manifest is damaged; whether there are any."""
    keys = store().damaged()
    for key in keys[:MOST_DAMAGED]:
        st.error(
            f"{plain(key, limit=40)}: manifest\\.json is missing or damaged; compare the pair again, which recomputes it, "
            "or `opdviz forget` it."
        )
    return bool(keys)


def warm() -> None:
    """Draw what a first visitor sees of the newest comparison, before there is one: libraries load and caches fill."""
    for key in store().keys()[:1]:
        chosen = Chosen(store(), key, store().manifest(key), status.state(store(), key))
        with suppress(OpdvizError):  # the page will say it
            for name in ("headline", "layers") if chosen.state == "done" else ():
                if figure := chosen.view(name, {}).figure:
                    figure.to_json()


def follow(chosen: Chosen, drawn: tuple) -> None:
    """While a comparison runs: draw the page again when more of it is there."""
    if chosen.stamp != drawn or status.state(chosen.store, chosen.key) != chosen.state:
        st.rerun()


def wait_for_first() -> None:
    """Until a comparison has its first files: say what is going on; then draw the page."""
    if store().keys():
        st.rerun()
    st.info("The checkpoints are being read. The page opens by itself.")


def summary(chosen: Chosen, name: str) -> pd.DataFrame:
    """One summary of the chosen comparison."""
    return cached_summary(str(chosen.store.root), chosen.key, chosen.stamp, name)


def table(chosen: Chosen, name: str) -> pd.DataFrame:
    """One tidy table of the chosen comparison."""
    return cached_table(str(chosen.store.root), chosen.key, chosen.stamp, name)


def need_rows(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Rows that a page cannot do without; while they are not there it says so and stops."""
    if rows.empty:
        st.info(f"No {what} yet. It appears here as soon as it is computed.")
        links.end()
    return rows


def gone(chosen: Chosen) -> bool:
    """Whether the checkpoints are no longer where they were compared."""
    with stepped_out():
        return not all(Path(chosen.manifest[side]["path"]).exists() for side in ("base", "tuned"))


def read_block(chosen: Chosen, tensor: str, row: int, column: int, size: int) -> pd.DataFrame | None:
    """Base and tuned values of a block that was read before (row, column, base, tuned); one that is damaged was not."""
    path = block_path(chosen.store.folder(chosen.key), tensor, row, column, size)
    tensors = summary(chosen, "by_tensor")
    rows = tensors[tensors["name"] == tensor] if len(tensors) else tensors
    if rows.empty:
        return None
    one = rows.iloc[0]
    return values.read(
        path, (1, int(one["numel"])) if pd.isna(one["rows"]) else (int(one["rows"]), int(one["columns"]))
    )


def fetch_block(chosen: Chosen, tensor: str, row: int, column: int, size: int) -> None:
    """Have a short process read a block from the checkpoints and keep it.

    Raises
        RequestError: the checkpoints are gone, changed, or outside the allowed folders.
    """
    where = ["--row", str(row), "--column", str(column), "--size", str(size), "--cache", str(chosen.store.root)]
    with stepped_out():
        for side in ("base", "tuned"):
            roots.allowed(chosen.manifest[side]["path"])
        roots.told("block", *where, "--", chosen.key, tensor)


def heading(title: str, chosen: Chosen, *more: str, trail: tuple[tuple[str, str, dict], ...] = ()) -> None:
    """A page's title, the way back to it, and one line that says what is compared and how much of it is in.

    `trail` is a list of (label, page, state) from the whole to here.
    """
    with st.container(horizontal=True, gap="xxsmall", vertical_alignment="center"):
        for at, (label, page, state) in enumerate(trail):
            words = f"{plain(label, limit=60)} ›"
            st.button(words, key=f"trail_{at}", type="tertiary", on_click=links.goto, args=(page, state))
        st.header(title, anchor=False, width="content")
    manifest = chosen.manifest
    parts = more or [
        f"{plain(manifest['base']['label'])} → {plain(manifest['tuned']['label'])}",
        f"{manifest['pairs']:,} tensors",
        f"{manifest['parameters'] / 1e6:,.1f} M parameters",
        "exact, float64",
    ]
    if chosen.state != "done":
        parts = [*parts, f"**{status.done_share(chosen.store, chosen.key):.0%} computed so far**"]
    first = ""
    if demo.is_demo(manifest):
        first = "A small demonstration model, a sentence encoder, not an OPD run.  \n"
    elif shipped.is_of_base(manifest):
        first = "A small model of the lab's, 2.4 M parameters, trained on a laptop to add: see Learn, Lab.  \n"
    st.caption(first + " · ".join(parts))


def warnings(chosen: Chosen, tensors: pd.DataFrame) -> None:
    """What a reader must know before any number: the same files twice, a strange base, values that are not finite."""
    if chosen.manifest.get("same"):
        st.warning("Base and tuned are the same files: nothing moved.")
    sound = by_tensor.countable(tensors)
    clean, broken = tensors[sound], tensors[~sound]
    if len(broken):
        names = plain(", ".join(broken["name"].head(20)))
        st.warning(
            f"{count(len(broken), 'tensor')} with NaN, Inf or values too large to sum; no total counts these: {names}"
        )
    off_grid = int(clean["off_grid"].sum())
    if off_grid:
        forms = plain(
            " and ".join(sorted({format_name(form) for form in clean.loc[clean["off_grid"] > 0, "counted_as"]}))
        )
        st.warning(
            f"The base is stored finer than the tuned: storing it as {forms} alone would move "
            f"{percent(off_grid / float(clean['numel'].sum()))} of its values. It is compared rounded so: norms, counts "
            "and spectra are of what is left."
        )
    scaled = clean["tuned_dtype"].str.startswith("float8") & ~clean["base_dtype"].str.startswith("float8")
    if scaled.any():
        st.warning(
            f"{count(int(scaled.sum()), 'tensor')} of the tuned are stored in float8, the base is not: their norms, spectra and "
            "angles hold the error of storing, about 2 to 3 % of each weight, beside what training did."
        )
    base, tuned = (float((clean[c] ** 2).sum()) ** 0.5 for c in ("base_norm", "tuned_norm"))
    inner = (base**2 + tuned**2 - float((clean["delta_norm"] ** 2).sum())) / 2
    if base and tuned and inner / base / tuned < 0.9:
        st.warning(f"Cosine of base and tuned is {inner / base / tuned:.2f}. Is this the right base?")
