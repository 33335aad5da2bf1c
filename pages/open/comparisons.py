"""Which comparisons there are, by their base, and how to make a new one."""

import streamlit as st

from opdviz import jobs
from opdviz.runs import family
from opdviz.store import status
from opdviz.ui import comparison, figure, form, job_lines, links, listing, packs, ready, server
from opdviz.words import count

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
if not server.read_only():
    ready.offer({row["name"] for row in rows})

comparison.say_damaged()
if rows:
    with st.container(horizontal=True, vertical_alignment="center"):
        figure.reading(f"{count(len(rows), 'comparison')} in the cache. Click one to open it.")
        if not server.read_only():
            listing.manage(rows)
            packs.offer()
    listing.families(family.by_base(store.all()), rows)
elif not server.read_only():
    packs.offer()


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
form.new_comparison()
