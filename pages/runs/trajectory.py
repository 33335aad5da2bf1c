"""A training over its steps: any quantity, the angles between its updates, how the mask grows, when
its leading directions were there, what each step takes to send, and its maps.
"""

import streamlit as st

from opdviz.runs import relate
from opdviz.runs.trajectory import missing, named, spread, trajectories
from opdviz.store.relations import DIRECTIONS, PAYLOAD
from opdviz.ui import comparison, figure, links, several
from opdviz.views import View, layers, run_overlap, run_payload, run_trajectory
from opdviz.words import count, listing, plain

family = several.need()
st.title("When did it settle?", anchor=False)
trainings = named(trajectories(family.runs))
if not trainings:
    st.info(
        "None of these runs are steps of one training. `opdviz compare BASE ROOT` takes a folder of"
        " `global_step_N`, `checkpoint-N` or `step_N`, all of them as one job."
    )
    links.end()
first, second, third = st.columns([5, 4, 3])
name = links.choose(first, "Training", list(trainings), "training")
training = trainings[name]
members = tuple(comparison.chosen(run.key) for run in training.runs)
runs = several.followed(several.Runs(members))
tensors = comparison.need_rows(runs.members[-1].summary("by_tensor"), "measurement")
links.choose(second, "Quantity", layers.mappable(tensors), "quantity")
links.switch(third, "By", run_trajectory.BY, "by")
steps = f"{count(len(training.steps), 'step')}, {training.steps[0]:,} to {training.steps[-1]:,}"
lacking = missing(training.steps)
without = f" Missing: step {listing([f'{step:,}' for step in lacking])}." if lacking else ""
st.caption(f"**{plain(name, limit=60)}**: {steps}, each beside the base.{without}")


def draw(key: str, view: View, of_runs: several.Runs = runs, called: str = "") -> None:
    """A view, with its data and definitions; `called` where commands call it otherwise."""
    command = of_runs.command(called or key, links.not_default(links.state()))
    with figure.drawn(key, view, figure.stem_of(name, key, {}), command=command):
        pass


state = links.state()
readers = [member.reader for member in runs.members]
draw("steps_lines", run_trajectory.lines(name, training.steps, readers, state))
st.header("Which way it went", anchor=False)
if (related := run_overlap.related(runs.several, by_key=True)) is None:
    several.ask_to_relate(runs, "Which way the steps went", "Read the steps")
else:
    draw("steps_angles", run_trajectory.angles(name, training.steps, runs.keys, related))
    line, _ = st.columns([4, 8])
    links.choose(line, "A coordinate moved by", tuple(run_overlap.PROBES), "probe")
    mask = run_trajectory.growth(name, training.steps, runs.keys, related, links.state())
    draw("steps_growth", mask)
st.header("When its leading directions were there", anchor=False)
few = several.Runs(tuple(spread(runs.members, relate.MOST[DIRECTIONS])))
if (similar := few.related(run_overlap.SIMILARITY)) is None:
    several.ask_to_relate(
        few,
        "Which leading directions the steps share",
        "Compare directions",
        run_overlap.SIMILARITY,
    )
else:
    line, _ = st.columns([4, 8])
    links.choose(line, "Shared with", run_trajectory.TO, "to")
    at = [training.steps[runs.keys.index(key)] for key in few.keys]
    settling = run_trajectory.settling(name, at, few.keys, similar, links.state())
    draw("steps_settling", settling, few)
st.header("What a weight sync would send", anchor=False)
if (sent := runs.related(PAYLOAD)) is None:
    several.ask_to_relate(runs, "What each step takes to send", "Count the bytes", PAYLOAD)
else:
    line, _ = st.columns([4, 8])
    links.choose(line, "Since", run_payload.SINCE, "since")
    draw("steps_payload", run_payload.by_step(name, training.steps, runs.keys, sent, links.state()))
st.header("The map at each step", anchor=False)
words = [str(step) for step in training.steps]
at = words.index(links.slide(st, "Step", words, "step"))
of_step = runs.members[at].view("layers", {"quantity": links.state()["quantity"]})
draw("steps_map", of_step, several.Runs((runs.members[at],)), "layers")
