"""How runs on one base lie to each other: the same coordinates, the same directions, beside chance
and beside what the sizes of the weights explain.
"""

import streamlit as st

from opdviz.ui import figure, links, several
from opdviz.views import View, run_overlap
from opdviz.words import count, plain

family = several.need()
st.title("Do the runs move alike?", anchor=False)
first, second, third = st.columns([6, 3, 3])
runs = several.choose(first, family)
relation = links.choose(second, "Relation", run_overlap.RELATIONS, "relation")
if relation == run_overlap.SAME:
    links.choose(third, "A coordinate moved by", tuple(run_overlap.PROBES), "probe")
shown = f"{len(runs.members)} of {count(len(family.runs), 'run')}"
st.caption(
    f"{shown} on **{plain(family.base.label, limit=60)}**. Two runs of one optimizer share its"
    " history, which no two files can separate."
)
related = run_overlap.related(runs.several)
if related is None:
    words = f"How these {len(runs.members)} runs lie to each other"
    several.ask_to_relate(runs, words, "Read the runs")
    links.end()
pairs = [f"{a} and {b}" for at, a in enumerate(related.names) for b in related.names[at + 1 :]]
places = [(a, b) for a in range(len(related.names)) for b in range(a + 1, len(related.names))]


def draw(name: str, view: View, **how) -> None:
    """A view, with its data and definitions."""
    stem = figure.stem_of(f"{len(related.names)} runs", name, {})
    command = runs.command(name, links.not_default(state))
    with figure.drawn(name, view, stem, command=command, **how):
        pass


def show(name: str, **how) -> None:
    """One of the page's views."""
    draw(name, run_overlap.OVERLAP_VIEWS[name](related, state), **how)


def open_pair(data: list) -> None:
    """In a callback: the map of the pair of a cell."""
    st.session_state["pair"] = pairs[places.index(tuple(sorted(data[:2])))]


state = links.state()
hint = "Click a cell to see it by layer." if len(pairs) > 1 else ""
show("overlap_matrix", on_click=open_pair, hint=hint)
st.header("By layer and module", anchor=False)
line, _ = st.columns([6, 6])
pair = links.choose(line, "Pair", pairs, "pair")
state |= {"pair": places[pairs.index(pair)]}
show("overlap_map")
if len(related.names) > 2:
    st.header("By how many runs", anchor=False)
show("overlap_agreement")
st.header("Leading directions", anchor=False)
table = run_overlap.similarities(runs.several)
if table is None:
    several.ask_to_relate(
        runs, "What leading directions they share", "Compare directions", "subspace_similarity"
    )
else:
    draw("overlap_directions", run_overlap.directions(related, table, state))
st.header("As a table", anchor=False)
line, _ = st.columns([6, 6])
by = links.switch(line, "By", run_overlap.BY, "rows_by")
several.relation_table(run_overlap.numbers(related, relation, by), by)
