"""Which comparisons there are, and how to make a new one: paths, check, start."""

import pandas as pd
import streamlit as st

from opdviz import jobs, roots
from opdviz.errors import OpdvizError
from opdviz.store import status
from opdviz.ui import comparison, figure, frame, job_lines, links, listing, server, turns
from opdviz.words import count, duration, plain

st.title("What did training do to the weights?", anchor=False)
store = server.store()
rows = status.listing(store)
with st.expander("New here? The geometry of an update in five sentences", expanded=not rows):
    st.markdown(
        "Training takes one checkpoint, the *base*, to another, the *tuned*: their difference is"
        " the *update*. It has a size, often a thousandth of the weights', and a place: some layers"
        " and modules take more of it than others. It has a sparsity: stored in 16 bits, many"
        " weights come out with the bits they went in with. And it has directions: a few may hold"
        " most of it, and these may or may not be the ones that mattered in the base. Chance, or"
        " the number format alone, would give a level of each of these, so opdviz draws that level"
        " beside every number."
    )
ready = {} if server.read_only() else frame.ready_made({row["name"] for row in rows})
if ready:
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Ready to compare", ready, format_func=lambda n: f"{n}: {ready[n][2]}", key="ready"
    )
    if right.button("Compare it", key="start_ready", width="stretch") and job_lines.start_job(
        *ready[name][:2], name=name
    ):
        st.rerun()

comparison.say_damaged()
if rows:
    with st.container(horizontal=True, vertical_alignment="center"):
        figure.reading(f"{count(len(rows), 'comparison')} in the cache. Click one to open it.")
        if not server.read_only():
            listing.manage(rows)
    listing.table(rows)


def draw_jobs() -> None:
    """The jobs that run or did not end well."""
    for job in jobs.all_jobs(store):
        if job.state != "done":
            job_lines.draw_job(job)


running = any(job.state == "running" for job in jobs.all_jobs(store))
st.fragment(draw_jobs, run_every=comparison.POLL if running else None)()

if server.read_only():
    st.caption("This server is read-only: comparisons are started on the command line.")
    links.end()
st.header("New comparison", anchor=False)
with turns.stepped_out():
    folders = roots.checkpoint_folders()
base, tuned = (
    place.selectbox(
        side,
        folders,
        index=None,
        accept_new_options=True,
        placeholder="choose, or type a path",
        key=side.lower(),
    )
    for place, side in zip(st.columns(2), ("Base", "Tuned"), strict=True)
)
below = ", ".join(plain(r) for r in roots.roots()[:3])
st.caption(f"Folders below: {below}. `opdviz app --roots DIR` allows others.")
if not (base and tuned):
    links.end()
try:
    with st.spinner("Reading the headers"), turns.stepped_out():
        pair = tuple(roots.allowed(roots.meant(side, folders)) for side in (base, tuned))
        facts = roots.check(*pair)
except OpdvizError as error:
    st.error(plain(error, limit=600))
    links.end()
size = f"{facts['parameters']:,} parameters; about {duration(facts['seconds'])}"
figure.reading(f"**{facts['pairs']:,} pairs, {len(facts['unmatched'])} left over, {size}.**")
if facts["same"]:
    st.warning("Both are the same folder: nothing will have moved.")
if other_names := facts["unmatched"] or facts["rewrites"]:
    with st.expander("Left over and rewritten names"):
        st.dataframe(pd.DataFrame(other_names), hide_index=True)
if before := listing.compared_before(*pair):
    st.info(f"Already compared, as **{plain(before.name, limit=60)}**.")
    if st.button("Open", type="primary", key="open_before"):
        links.follow("pages/run/overview.py", {"comparison": before.key})
by_default = "what to call it; by default after both folders"
name = st.text_input("Name", key="name", placeholder=by_default, max_chars=200)
device = job_lines.chosen_device(facts["gpus"])
words, look = ("Compare again", "secondary") if before else ("Compare", "primary")
pressed = st.button(words, type=look, key="start")
if pressed and job_lines.start_job(*pair, name=name, device=device):
    st.rerun()
