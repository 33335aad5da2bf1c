"""Which comparisons there are, and how to make a new one: paths, check, start."""

import pandas as pd
import streamlit as st

from opdviz import demo, jobs, tables, ui
from opdviz.cli import duration
from opdviz.errors import OpdvizError

st.header("What did training do to the weights?", anchor=False)
store = ui.store()
rows = tables.listing(store)
pair = demo.pair()
if not rows:
    st.markdown(
        "Name two checkpoints, a base and what training made of it. opdviz pairs their tensors, measures the update between "
        "them, and shows where it lies, how sparse it is and in which directions, always beside what chance or the number "
        "format alone would give."
    )
if pair and not any(row["name"] == demo.NAME for row in rows) and not ui.read_only():
    st.info("The demonstration pair is installed: a small sentence encoder and a model tuned from it, 22.7 M parameters.")
    if st.button("Compare the demo pair", type="primary", key="start_demo"):
        ui.start_job(*pair, name=demo.NAME)
        st.rerun()

if rows:
    frame = pd.DataFrame(rows)
    count = len(frame)
    ui.reading(f"{count} comparison{'s' if count > 1 else ''} in the cache. Choose a row to open it.")
    event = st.dataframe(
        frame[["name", "base", "tuned", "state", "done_share", "pairs", "parameters", "bytes"]],
        hide_index=True, key="comparisons", on_select="rerun", selection_mode="single-row",
        column_config={
            "done_share": st.column_config.ProgressColumn("computed", format="percent", min_value=0.0, max_value=1.0),
            "pairs": st.column_config.NumberColumn("tensors", format="localized"),
            "parameters": st.column_config.NumberColumn("parameters", format="compact"),
            "bytes": st.column_config.NumberColumn("size", format="bytes"),
        },
    )  # fmt: skip
    if event["selection"]["rows"]:
        key = frame.iloc[event["selection"]["rows"][0]]["key"]
        st.switch_page("pages/run/overview.py", query_params={"comparison": key})


def draw_job(job: jobs.Job) -> None:
    """One job: what it compares, how far it is, what can be done about it."""
    with st.container(border=True):
        st.markdown(f"{ui.plain(job.request.get('base'))} → {ui.plain(job.request.get('tuned'))}")
        if job.state == "running":
            left = job.status.get("left")
            text = f"{job.status.get('phase', 'starting')} · {job.share:.0%}" + (f" · about {left:.0f} s left" if left else "")
            st.progress(min(1.0, job.share), text=text)
        elif job.state == "failed":
            st.error(ui.plain(job.message))
        else:
            st.caption(job.state)
        left_side, right_side = st.columns([1, 5])
        if not ui.read_only() and job.state == "running" and left_side.button("Cancel", key=f"cancel_{job.id}"):
            jobs.cancel(job)
        if not ui.read_only() and job.state in ("failed", "cancelled") and left_side.button("Retry", key=f"retry_{job.id}"):
            ui.start_job(job.request["base"], job.request["tuned"], name=job.request.get("name"))
            st.rerun()
        with right_side.expander("Log"):
            st.code(job.log() or "nothing yet", language=None)


def draw_jobs() -> None:
    """The jobs that run or did not end well."""
    for job in jobs.all_jobs(store):
        if job.state != "done":
            draw_job(job)


running = any(job.state == "running" for job in jobs.all_jobs(store))
st.fragment(draw_jobs, run_every=ui.POLL if running else None)()

if ui.read_only():
    st.caption("This server is read-only: comparisons are started on the command line.")
    st.stop()
st.subheader("New comparison", anchor=False)
folders = ui.checkpoint_folders()
left, right = st.columns(2)
base = left.selectbox("Base", folders, index=None, accept_new_options=True, placeholder="choose, or type a path", key="base")
tuned = right.selectbox("Tuned", folders, index=None, accept_new_options=True, placeholder="choose, or type a path", key="tuned")
st.caption("Folders below: " + ", ".join(ui.plain(r) for r in ui.roots()[:3]) + ". `opdviz app --roots DIR` allows others.")
if not (base and tuned):
    st.stop()
try:
    with st.spinner("Reading the headers"):
        facts = ui.check(ui.allowed(base), ui.allowed(tuned))
except OpdvizError as error:
    st.error(ui.plain(error, limit=600))
    st.stop()
leftover = len(facts["unmatched"])
ui.reading(
    f"**{facts['pairs']:,} pairs, {leftover} left over, {facts['parameters']:,} parameters; about {duration(facts['seconds'])}.**"
)
if facts["same"]:
    st.warning("Both are the same folder: nothing will have moved.")
if leftover or facts["rewrites"]:
    with st.expander("Left over and rewritten names"):
        st.dataframe(pd.DataFrame(facts["unmatched"] or facts["rewrites"]), hide_index=True)
if st.button("Compare", type="primary", key="start"):
    ui.start_job(ui.allowed(base), ui.allowed(tuned))
    st.rerun()
