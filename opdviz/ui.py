"""The only border to Streamlit below the pages: what is chosen, cached tables, figures with their reading, job lines."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from opdviz import demo, jobs, roots, tables
from opdviz.errors import OpdvizError, one_line
from opdviz.figures import theme
from opdviz.lab import shipped
from opdviz.lab.places import Places
from opdviz.lab.recipes import MAIN
from opdviz.quantities import QUANTITIES
from opdviz.store import Store, block_path, part_count
from opdviz.words import count, plain

POLL = "1s"
LAB_NAME = "lab opd"


@dataclass(frozen=True)
class Chosen:
    """The comparison that a page shows."""

    store: Store
    key: str
    manifest: dict
    state: str

    @property
    def stamp(self) -> tuple:
        """What changes when more of the comparison is on disk: the key of every cached table."""
        try:
            written = (self.store.folder(self.key) / "manifest.json").stat().st_mtime_ns
        except OSError:
            written = 0
        return written, part_count(self.store, self.key)


def store() -> Store:
    """The store of this server."""
    return Store(Path(os.environ.get("OPDVIZ_CACHE") or "cache").resolve())


def block(chosen: Chosen, name: str, row: int, column: int, size: int) -> pd.DataFrame:
    """Base and tuned values of a block of a tensor: from the store, or read from the files by a short process.

    Raises
        RequestError: the checkpoints are gone, changed, or outside the allowed folders.
    """
    path = block_path(chosen.store.folder(chosen.key), name, row, column, size)
    if not path.is_file():
        for side in ("base", "tuned"):
            roots.allowed(chosen.manifest[side]["path"])
        where = ["--row", str(row), "--column", str(column), "--size", str(size), "--cache", str(chosen.store.root)]
        roots.told("block", *where, "--", chosen.key, name)
    return pd.read_parquet(path)


def read_only() -> bool:
    """Whether jobs can be started from the pages."""
    return os.environ.get("OPDVIZ_READ_ONLY") == "1"


def first_start() -> None:
    """In a cache that was never used: write the lab's checkpoints out and start comparing its `opd` run with the base."""
    st.session_state["first_view"] = "first_view" not in st.session_state
    made = store()
    lab = made.root / "lab"
    if read_only() or lab.exists() or made.keys():
        return
    bar, text = st.empty(), "Unpacking the lab's checkpoints"
    try:
        shipped.expand(lab, lambda share: bar.progress(share, text=text))
    except OpdvizError as error:
        st.error(plain(error))
        return
    finally:
        bar.empty()
    if not all((lab / name).is_dir() for name in shipped.FIRST):  # a checkout without them
        return
    start_job(*(str(lab / name) for name in shipped.FIRST), name=LAB_NAME)


def ready_made(known: set[str]) -> dict[str, tuple[str, str, str]]:
    """Pairs that are on this machine to be looked at, by name: base, tuned and what it is; without those compared already."""
    lab = Places(store().root / "lab")
    found = {
        f"lab {recipe.name}": (str(lab.of(recipe.base)), str(lab.folder(recipe)), recipe.text)
        for recipe in MAIN
        if lab.folder(recipe).is_dir()
    }
    if pair := demo.pair():
        found[demo.NAME] = (*pair, "a sentence encoder and a model tuned from it, made by nobody here")
    return {name: pair for name, pair in found.items() if name not in known}


def open_the_lab_s_first(rows: list[dict]) -> None:
    """Where this is a visitor's first page: go to the lab's own comparison, while it is the only one, or on its way."""
    alone = [row["name"] for row in rows] == [LAB_NAME]
    coming = not rows and any(
        job.request.get("name") == LAB_NAME and job.state == "running" for job in jobs.all_jobs(store())
    )
    if st.session_state["first_view"] and (alone or coming):
        st.switch_page("pages/run/overview.py")


def choose_comparison() -> None:
    """The frame's choice of comparison; its key stands in the address."""
    keys = store().keys()
    if not keys:
        st.caption("No comparison yet.")
        return
    names = {k: one_line(store().manifest(k).get("name", k), limit=60) for k in keys}
    doubled = {n for n in names.values() if list(names.values()).count(n) > 1}
    st.selectbox(
        "Comparison",
        keys,
        key="comparison",
        bind="query-params",
        format_func=lambda k: f"{names[k]} ({k[:6]})" if names.get(k) in doubled else names.get(k, k),
    )


def need_comparison() -> Chosen:
    """The chosen comparison; without one the page says what to do and stops."""
    key = st.session_state.get("comparison")
    keys = store().keys()
    if key not in keys:
        if not keys and any(job.state == "running" for job in jobs.all_jobs(store())):
            st.header("The first comparison is on its way", anchor=False)
            st.fragment(wait_for_first, run_every=POLL)()
            st.stop()
        if not keys:
            st.header("Nothing to show yet", anchor=False)
            st.info("Nothing has been compared yet. Choose two checkpoints, or the demo pair, on the first page.")
            st.page_link("pages/open/comparisons.py", label="Compare two checkpoints", icon=":material/add:")
            st.stop()
        key = keys[0]
    made = store()
    chosen = Chosen(made, key, made.manifest(key), tables.state(made, key))
    if chosen.state in ("partial", "failed"):
        share = tables.done_share(made, key)
        st.warning(
            f"This comparison is {chosen.state}: {share:.0%} of its parts are there. Compare the pair again to go on."
        )
    return chosen


def wait_for_first() -> None:
    """Until a comparison has its first files: say what is going on; then draw the page."""
    if store().keys():
        st.rerun()
    st.info("The checkpoints are being read. The page opens by itself.")


@st.cache_data(max_entries=128, show_spinner=False)
def cached_table(root: str, key: str, name: str, stamp: tuple) -> pd.DataFrame:
    """A table by what it depends on."""
    makers = {"by_tensor": tables.quantities_by_tensor}
    if name in makers:
        return makers[name](Store(Path(root)), key)
    return tables.table(Store(Path(root)), key, name)


def table(chosen: Chosen, name: str) -> pd.DataFrame:
    """One tidy table of the chosen comparison (`by_tensor`: every headline quantity of each tensor)."""
    return cached_table(str(chosen.store.root), chosen.key, name, chosen.stamp)


def need_rows(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Rows that a page cannot do without; while they are not there it says so and stops."""
    if rows.empty:
        st.info(f"No {what} yet. It appears here as soon as it is computed.")
        st.stop()
    return rows


def heading(title: str, chosen: Chosen, *more: str) -> None:
    """A page's title and one line that says what is compared, how much of it is in, and what the page adds."""
    st.header(title, anchor=False)
    manifest = chosen.manifest
    parts = more or [
        f"{plain(manifest['base']['label'])} → {plain(manifest['tuned']['label'])}",
        f"{manifest['pairs']:,} tensors",
        f"{manifest['parameters'] / 1e6:,.1f} M parameters",
        "exact, float64",
    ]
    if chosen.state != "done":
        parts = [*parts, f"**{tables.done_share(chosen.store, chosen.key):.0%} computed so far**"]
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
    clean = tables.counted(tensors)
    broken = tensors[~tensors["name"].isin(clean["name"])]
    if len(broken):
        names = plain(", ".join(broken["name"]))
        st.warning(
            f"{count(len(broken), 'tensor')} with NaN, Inf or values too large to sum; no total counts these: {names}"
        )
    base, tuned = (float((clean[c] ** 2).sum()) ** 0.5 for c in ("base_norm", "tuned_norm"))
    inner = (base**2 + tuned**2 - float((clean["delta_norm"] ** 2).sum())) / 2
    if base and tuned and inner / base / tuned < 0.9:
        st.warning(f"Cosine of base and tuned is {inner / base / tuned:.2f}. Is this the right base?")


def reading(sentence: str) -> None:
    """The one sentence that says what a figure shows."""
    st.markdown(sentence)


def show(figure: go.Figure, key: str, data: pd.DataFrame, terms: tuple[str, ...], *, on_select: str = "ignore"):
    """A figure with its definitions and its data one click away. Returns Streamlit's selection."""
    selection = st.plotly_chart(
        figure,
        key=f"figure_{key}",
        theme="streamlit",
        on_select=on_select,
        selection_mode="points",
        alt=theme.alt(figure),
        config={"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": f"opdviz_{key}"},
                "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]},
    )  # fmt: skip
    line = st.container(horizontal=True)
    with line.popover("Definition", type="tertiary", width="content"):
        for term in terms:
            definition(term)
    with line.popover("Data", type="tertiary", width="content"):
        st.download_button(
            "CSV", lambda: data.to_csv(index=False).encode(), f"{key}.csv", on_click="ignore", key=f"csv_{key}"
        )
        st.download_button("Parquet", lambda: parquet(data), f"{key}.parquet", on_click="ignore", key=f"parquet_{key}")
    return selection


def parquet(data: pd.DataFrame) -> bytes:
    """A frame as a Parquet file."""
    buffer = io.BytesIO()
    data.to_parquet(buffer, index=False)
    return buffer.getvalue()


def definition(name: str, *, column: bool = False) -> None:
    """A quantity's meaning, formula, chance, pitfall and source; with `column` also its name in the tables."""
    q = QUANTITIES[name]
    title = f"**{plain(q.label)}**" + (f" [{plain(q.name)}]" if column else "")
    lines = [f"{title}: {plain(q.meaning)}"]
    lines += [f"{label}: {plain(text)}" for label, text in
              (("Formula", q.formula), ("Chance", q.chance), ("Careful", q.pitfall), ("Source", q.source)) if text]  # fmt: skip
    st.markdown("  \n".join(lines))


def open_tensor(name: str) -> None:
    """Go to a tensor's page; the frame keeps the comparison, whose parameter only its own widget may write."""
    st.session_state["tensor"] = name
    st.switch_page("pages/run/tensor.py", query_params={"tensor": name})


def picked(selection) -> str | None:
    """The tensor name that the clicked mark carries."""
    points = selection["selection"]["points"] if selection else []
    data = points[0].get("customdata") if points else None
    return data[0] if data else None


def tensor_table(rows: pd.DataFrame, columns: list[str], key: str) -> None:
    """A sortable table of tensors; a chosen row opens its tensor."""
    config = {c: column(c, whole=pd.api.types.is_integer_dtype(rows[c])) for c in columns}
    event = st.dataframe(
        rows[columns], hide_index=True, key=key, on_select="rerun", selection_mode="single-row", column_config=config,
        height=min(420, 60 + 35 * len(rows)),
    )  # fmt: skip
    if event["selection"]["rows"]:
        open_tensor(rows.iloc[event["selection"]["rows"][0]]["name"])


def column(name: str, *, whole: bool = False):
    """How a quantity is shown in a table."""
    q = QUANTITIES.get(name)
    if q is None:
        return None
    help_ = " ".join(filter(None, (q.meaning, q.formula)))
    if q.unit == "share" or name == "relative_norm":
        return st.column_config.NumberColumn(q.label, help=help_, format="percent")
    if q.unit:
        return st.column_config.NumberColumn(
            q.label, help=help_, format="localized" if whole or q.unit == "count" else "%.4g"
        )
    return st.column_config.TextColumn(q.label, help=help_)


def start_job(base: str, tuned: str, *, name: str | None = None) -> None:
    """Start a comparison, or say why not."""
    try:
        jobs.start(store(), base, tuned, name=name)
    except OpdvizError as error:
        st.error(plain(error))
        st.stop()


def job_line() -> None:
    """The frame's line on what runs; it polls while something does, and refreshes the page when it is done."""
    running = [job for job in jobs.all_jobs(store()) if job.state == "running"]
    st.fragment(draw_job_line, run_every=POLL if running else None)([job.id for job in running])


def draw_job_line(was_running: list[str]) -> None:
    """One line and a bar for each job that was running when the page was drawn."""
    done = False
    for job in jobs.all_jobs(store()):
        if job.id not in was_running:
            continue
        if job.state == "running":
            st.progress(min(1.0, job.share), text=progress_text(job))
        else:
            done = True
    if done:
        st.rerun()


def draw_job(job: jobs.Job) -> None:
    """One job: what it compares, how far it is, what can be done about it."""
    with st.container(border=True):
        st.markdown(f"{plain(job.request.get('base'))} → {plain(job.request.get('tuned'))}")
        if job.state == "running":
            st.progress(min(1.0, job.share), text=f"{job.status.get('phase', 'starting')} · {progress_text(job)}")
        elif job.state == "failed":
            st.error(plain(job.message, limit=600))
        else:
            st.caption(job.state)
        left, right = st.columns([1, 5])
        if not read_only() and job.state == "running" and left.button("Cancel", key=f"cancel_{job.id}"):
            jobs.cancel(job)
        if not read_only() and job.state in ("failed", "cancelled") and left.button("Retry", key=f"retry_{job.id}"):
            start_job(job.request["base"], job.request["tuned"], name=job.request.get("name"))
            st.rerun()
        with right.expander("Log"):
            st.code(job.log() or "nothing yet", language=None)


def progress_text(job: jobs.Job) -> str:
    """How far a job is and how long it takes yet."""
    left = job.status.get("left")
    return f"{job.share:.0%}" + (f" · about {left:.0f} s left" if left else "")
