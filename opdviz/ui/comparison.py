"""The comparison that a page shows: found, cached, introduced; and what a page says where there is
none.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
import streamlit as st

from opdviz import demo, jobs, roots
from opdviz.definitions import EXACT
from opdviz.errors import OpdvizError
from opdviz.lab import shipped
from opdviz.store import board, status, values
from opdviz.store import manifest as manifests
from opdviz.store.manifest import Manifest
from opdviz.store.store import Stored
from opdviz.store.values import block_path
from opdviz.tables import by_tensor
from opdviz.ui import address, cached, links, server, turns
from opdviz.views import Reader, View, draw
from opdviz.words import count, format_name, percent, plain

POLL = "1s"
PARTS_POLL = "4s"
# Named in one notice; how many more there are is said.
MOST_DAMAGED = 5


@dataclass(frozen=True)
class Chosen:
    """The comparison that a page shows, as it is while the page is drawn."""

    comparison: Stored
    state: str

    @property
    def key(self) -> str:
        """Its key."""
        return self.comparison.key

    @property
    def name(self) -> str:
        """Its name."""
        return self.comparison.name

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.comparison.folder

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self.comparison.manifest

    @cached_property
    def stamp(self) -> tuple:
        """What changes when more of the comparison is on disk: the key of everything cached.

        A run that makes bundles writes its manifest all the time; then the count says when there is
        enough more to draw.
        """
        count = coarse(status.part_count(self.comparison))
        if self.manifest.bundled:
            return *self.manifest.compacted, *sorted(self.manifest.bundled), count
        try:
            return (self.folder / manifests.FILE).stat().st_mtime_ns, count
        except OSError:
            return 0, count

    @cached_property
    def board(self) -> dict:
        """Its pins and notes; empty where they cannot be read, which the board's own page says."""
        try:
            return board.read(self.folder)
        except OpdvizError:
            return board.EMPTY

    @cached_property
    def reader(self) -> Reader:
        """What views are drawn from."""
        with_notes = frozenset(note["tensor"] for note in self.board["notes"])
        return Reader(
            self.manifest,
            self.summary,
            self.rows,
            self.moved_given_size,
            partial(read_block, self),
            with_notes,
            self.state == "done",
        )

    def summary(self, name: str) -> pd.DataFrame:
        """One summary."""
        return cached.summary(str(self.folder), self.stamp, name, self.comparison)

    def rows(self, table: str, tensor: str) -> pd.DataFrame:
        """One tensor's rows of a stored table."""
        return cached.rows(str(self.folder), self.stamp, table, tensor, self.comparison)

    def moved_given_size(self, tensor: str) -> pd.DataFrame:
        """One tensor's histogram of the base, with what moved."""
        return cached.moved_given_size(str(self.folder), self.stamp, tensor, self.comparison)

    def table(self, name: str) -> pd.DataFrame:
        """One tidy table."""
        return cached.table(str(self.folder), self.stamp, name, self.comparison)

    def headline(self, protocol: str) -> list[dict]:
        """The rows of a protocol."""
        return cached.headline(str(self.folder), self.stamp, protocol, self.comparison)

    @property
    def drawn_from(self) -> tuple:
        """What its views depend on."""
        return *self.stamp, self.reader.noted, self.state

    def view(self, name: str, state: dict) -> View:
        """A view in a state, drawn once for all sessions. A block of values may be read in between,
        so that one is not.
        """
        if name == "pixels":
            return draw(name, self.reader, state)
        words = json.dumps(state, sort_keys=True)
        return cached.view(str(self.folder), self.drawn_from, name, words, self.reader)


def coarse(count: int) -> int:
    """A count to two digits, downwards: a page follows the first parts closely, and a long run now
    and then.

    >>> coarse(7), coarse(99), coarse(1234)
    (7, 99, 1200)
    """
    step = 10 ** max(0, len(str(count)) - 2)
    return count // step * step


def chosen(key: str) -> Chosen:
    """A comparison, to be shown.

    Raises
        CheckFailed: its manifest is damaged.
    """
    comparison = server.store().open(key)
    return Chosen(comparison, status.state(comparison))


def need() -> Chosen:
    """The chosen comparison; without one the page says what to do and stops. While it runs, the
    page follows it.
    """
    key, store = address.shown(), server.store()
    keys = store.keys()
    if key not in keys:
        ask_for_one(keys)
        links.end()
    comparison = chosen(key)
    if comparison.state == "running":
        # One at work in a terminal, as well as a job.
        st.fragment(follow, run_every=PARTS_POLL)(comparison)
    if comparison.state in ("partial", "failed"):
        share = status.done_share(comparison.comparison)
        going = any(
            job.state == "running"
            for job in jobs.all_jobs(store)
            if is_for(job, comparison.manifest)
        )
        what = "is being taken up again" if going else f"is {comparison.state}"
        then = "" if going else " Compare the pair again to go on."
        st.warning(f"This comparison {what}: {share:.0%} of its parts are there.{then}")
    return comparison


def ask_for_one(keys: list[str]) -> None:
    """Where the address names no comparison: which one it is to be, or that there is none yet."""
    if keys:
        address.ask()
    elif any(job.state == "running" for job in jobs.all_jobs(server.store())):
        st.title("The first comparison is on its way", anchor=False)
        st.fragment(wait_for_first, run_every=POLL)()
    elif not say_damaged():
        st.title("Nothing to show yet", anchor=False)
        st.info(
            "Nothing has been compared yet. Choose two checkpoints, or the demo pair, on the first"
            " page."
        )
        st.page_link(
            "pages/open/comparisons.py", label="Compare two checkpoints", icon=":material/add:"
        )


def is_for(job: jobs.Job, manifest: Manifest) -> bool:
    """Whether a job compares the pair of a manifest; before it has the lock, while the files are
    read, the paths tell.
    """
    return job.request.covers(manifest.base.path, manifest.tuned.path)


def say_damaged() -> bool:
    """Say which comparisons cannot be shown, because their manifest is damaged; whether there are
    any.
    """
    keys = server.store().damaged()
    for key in keys[:MOST_DAMAGED]:
        st.error(
            f"{plain(key, limit=40)}: manifest\\.json is missing or damaged; compare the pair"
            " again, which recomputes it, or `opdviz forget` it."
        )
    return bool(keys)


def warm() -> None:
    """Draw what a first visitor sees of the newest comparison, before there is one: libraries load
    and caches fill.
    """
    for key in server.store().keys()[:1]:
        with suppress(OpdvizError):  # the page will say it
            newest = chosen(key)
            for name in ("headline", "layers") if newest.state == "done" else ():
                if figure := newest.view(name, {}).figure:
                    figure.to_json()


def follow(shown: Chosen) -> None:
    """While a comparison runs: draw the page again when more of it is there."""
    with suppress(OpdvizError):  # gone, or damaged: the page will say it
        now = chosen(shown.key)
        if (now.stamp, now.state) == (shown.stamp, shown.state):
            return
    st.rerun()


def wait_for_first() -> None:
    """Until a comparison has its first files: say what is going on; then draw the page."""
    if server.store().keys():
        st.rerun()
    st.info("The checkpoints are being read. The page opens by itself.")


def need_rows(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Rows that a page cannot do without; while they are not there it says so and stops."""
    if rows.empty:
        st.info(f"No {what} yet. It appears here as soon as it is computed.")
        links.end()
    return rows


def checkpoints_missing(chosen: Chosen) -> bool:
    """Whether the checkpoints are no longer where they were compared."""
    with turns.stepped_out():
        return not all(
            Path(side.path).exists() for side in (chosen.manifest.base, chosen.manifest.tuned)
        )


def read_block(
    chosen: Chosen, tensor: str, row: int, column: int, size: int
) -> pd.DataFrame | None:
    """Base and tuned values of a block that was read before (row, column, base, tuned); one that is
    damaged was not.
    """
    path = block_path(chosen.folder, tensor, row, column, size)
    tensors = chosen.summary("by_tensor")
    rows = tensors[tensors["name"] == tensor] if len(tensors) else tensors
    if rows.empty:
        return None
    one = rows.iloc[0]
    return values.read(
        path,
        (1, int(one["numel"])) if pd.isna(one["rows"]) else (int(one["rows"]), int(one["columns"])),
    )


def fetch_block(chosen: Chosen, tensor: str, row: int, column: int, size: int) -> None:
    """Have a short process read a block from the checkpoints and keep it.

    Raises
        RequestError: the checkpoints are gone, changed, or outside the allowed folders.
    """
    where = [
        "--row",
        str(row),
        "--column",
        str(column),
        "--size",
        str(size),
        "--cache",
        str(server.store().root),
    ]
    with turns.stepped_out():
        for side in (chosen.manifest.base, chosen.manifest.tuned):
            roots.allowed(side.path)
        roots.output_of_command("block", *where, "--", chosen.key, tensor)


def heading(
    title: str, chosen: Chosen, *more: str, trail: tuple[tuple[str, str, dict], ...] = ()
) -> None:
    """A page's title, the way back to it, and one line that says what is compared and how much of
    it is in.

    `trail` is a list of (label, page, state) from the whole to here.
    """
    with st.container(horizontal=True, gap="xxsmall", vertical_alignment="center"):
        for at, (label, page, state) in enumerate(trail):
            words = f"{plain(label, limit=60)} ›"
            st.button(
                words, key=f"trail_{at}", type="tertiary", on_click=links.goto, args=(page, state)
            )
        st.title(title, anchor=False, width="content")
    manifest = chosen.manifest
    parts = [f"**{plain(chosen.name, limit=60)}**"]
    parts += more or [
        f"{plain(manifest.base.label)} → {plain(manifest.tuned.label)}",
        f"{manifest.pairs:,} tensors",
        f"{manifest.parameters / 1e6:,.1f} M parameters",
    ]
    parts.append(words_of_precision(manifest))
    if chosen.state != "done":
        parts = [*parts, f"**{status.done_share(chosen.comparison):.0%} computed so far**"]
    first = ""
    if demo.is_demo(manifest):
        first = "A small demonstration model, a sentence encoder, not an OPD run.  \n"
    elif shipped.is_of_base(manifest):
        first = (
            "A small model of the lab's, 2.4 M parameters, trained on a laptop to add: see Learn,"
            " Lab.  \n"
        )
        if not trail:  # where a first start lands
            first += (
                "opdviz shows what training did to its weights; your own checkpoints are compared"
                " under Open, Comparisons.  \n"
            )
    st.caption(first + " · ".join(parts))


def words_of_precision(manifest: Manifest) -> str:
    """How the numbers were computed: on every page of a run."""
    if manifest.precision == EXACT:
        return "exact, float64"
    return "**fast**: spectra of large matrices by their leading values alone, at random"


def warnings(chosen: Chosen, tensors: pd.DataFrame) -> None:
    """What a reader must know before any number: the same files twice, a strange base, values that
    are not finite.
    """
    if chosen.manifest.same:
        st.warning("Base and tuned are the same files: nothing moved.")
    sound = by_tensor.countable(tensors)
    clean, broken = tensors[sound], tensors[~sound]
    if len(broken):
        names = plain(", ".join(broken["name"].head(20)))
        st.warning(
            f"{count(len(broken), 'tensor')} with NaN, Inf or values too large to sum; no total"
            f" counts these: {names}"
        )
    off_grid = int(clean["off_grid"].sum())
    if off_grid:
        forms = plain(
            " and ".join(
                sorted(
                    {format_name(form) for form in clean.loc[clean["off_grid"] > 0, "counted_as"]}
                )
            )
        )
        st.warning(
            f"The base is stored finer than the tuned: storing it as {forms} alone would move"
            f" {percent(off_grid / float(clean['numel'].sum()))} of its values. It is compared"
            " rounded so: norms, counts and spectra are of what is left."
        )
    scaled = clean["tuned_dtype"].str.startswith("float8") & ~clean["base_dtype"].str.startswith(
        "float8"
    )
    if scaled.any():
        st.warning(
            f"{count(int(scaled.sum()), 'tensor')} of the tuned are stored in float8, the base is"
            " not: their norms, spectra and angles hold the error of storing, about 2 to 3 % of"
            " each weight, beside what training did."
        )
    base, tuned = (float((clean[c] ** 2).sum()) ** 0.5 for c in ("base_norm", "tuned_norm"))
    inner = (base**2 + tuned**2 - float((clean["delta_norm"] ** 2).sum())) / 2
    if base and tuned and inner / base / tuned < 0.9:
        st.warning(
            f"Cosine of base and tuned is {inner / base / tuned:.2f}. Is this the right base?"
        )
