"""The form for a new comparison: a base and the runs on it, what they have in common, start."""

import pandas as pd
import streamlit as st

from opdviz import roots
from opdviz.engine.estimate import on_one_base
from opdviz.errors import OpdvizError
from opdviz.store.manifest import LABELS
from opdviz.store.store import LONGEST_NAME
from opdviz.ui import figure, job_lines, links, listing, turns
from opdviz.words import count, duration, plain


def new_comparison() -> None:
    """Everything from two paths to a job; it says what hinders it and ends the page there."""
    with turns.stepped_out():
        folders = roots.checkpoint_folders()
    first, second = st.columns(2)
    how = {"accept_new_options": True, "placeholder": "choose, or type a path"}
    base = first.selectbox("Base", folders, index=None, key="base", **how)
    # Enter takes the first that fits what was typed, not all that do.
    tuned = second.multiselect("Tuned", folders, key="tuned", select_all=False, wrap=True, **how)
    below = ", ".join(plain(root) for root in roots.roots()[:3])
    of_hub = " Or a model on the hub, `hf://org/name@revision/folder`." if roots.asks_hub() else ""
    st.caption(
        f"Several tuned checkpoints are compared as one job. Folders below: {below}. `opdviz app"
        f" --roots DIR` allows others.{of_hub}"
    )
    if not (base and tuned):
        links.end()
    try:
        with st.spinner("Reading the headers"), turns.stepped_out():
            base, *words = (roots.allowed(roots.meant(side, folders)) for side in (base, *tuned))
            runs = [run for word in words for run in roots.expanded(word)]
            facts = roots.check(base, *runs)
    except OpdvizError as error:
        st.error(plain(error, limit=600))
        links.end()
    say_checked(runs, facts)
    before = [listing.compared_before(base, run) for run in runs]
    compared = [run for run in before if run]
    if compared:
        names = ", ".join(f"**{plain(run.name, limit=60)}**" for run in compared)
        st.info(f"Already compared, as {names}; what stands is not measured again.")
        if st.button("Open", type="primary", key="open_before"):
            links.follow("pages/run/overview.py", {"comparison": compared[0].key})
    start(base, runs, facts[0]["gpus"], again=all(before))


def say_checked(runs: list[str], facts: list[dict]) -> None:
    """What base and runs have in common, and how long comparing them takes."""
    first, seconds = facts[0], on_one_base(one["seconds"] for one in facts)
    pairs = f"{first['pairs']:,} pairs, {len(first['unmatched'])} left over"
    if len(facts) > 1:
        pairs = f"{count(len(facts), 'run')}, {sum(one['pairs'] for one in facts):,} pairs"
    parameters = f"{first['parameters']:,} parameters"
    figure.reading(f"**{pairs}, {parameters}; about {duration(seconds)}.**")
    for run, one in zip(runs, facts, strict=True):
        of_run = f"{plain(run)}: " if len(runs) > 1 else ""
        if one["same"]:
            st.warning(f"{of_run}both are the same folder: nothing will have moved.")
        if other_names := one["unmatched"] or one["rewrites"]:
            with st.expander(f"{of_run}left over and rewritten names".capitalize()):
                st.dataframe(pd.DataFrame(other_names), hide_index=True)


def start(base: str, runs: list[str], gpus: list[str], *, again: bool) -> None:
    """What to call the runs, where to compute, and the button that starts the job."""
    first, *others = st.columns([2, 1, 1])
    of_each: dict[str, list[str]] = {}
    if len(runs) == 1:
        by_default = "what to call it; by default after both folders"
        name = first.text_input("Name", key="name", placeholder=by_default, max_chars=LONGEST_NAME)
        of_each["name"] = [name.strip()]
    else:
        first.caption("Each run is called after its folder; its name can be edited later.")
    for place, field in zip(others, LABELS, strict=True):
        of_each[field] = [listing.label_input(place, field)] * len(runs)
    device = job_lines.chosen_device(gpus)
    words, look = ("Compare again", "secondary") if again else ("Compare", "primary")
    pressed = st.button(words, type=look, key="start")
    if pressed and job_lines.start_job(base, *runs, device=device, **of_each):
        st.rerun()
