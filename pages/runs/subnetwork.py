"""The subnetwork of a run: where it is dense, its mask as a file, how to train it alone, how to see
what a part of the moves does, and what it takes to send.
"""

import shlex

import streamlit as st

from opdviz.runs.mask_kinds import KINDS, OF_BASE, SETS, VISIBLE
from opdviz.store.relations import PAYLOAD
from opdviz.ui import address, comparison, figure, links, several
from opdviz.views import run_payload, subnetwork
from opdviz.words import plain

TRAIN = """from opdviz.lab.subnetwork import SubnetworkCallback

trainer = Trainer(..., callbacks=[SubnetworkCallback("mask.safetensors")])"""
MEANING = {
    VISIBLE: "what the run moved",
    "union": "what any of several runs moved",
    "intersection": "what all of several runs moved",
    "difference": "what this run moved and no other",
    "random": "as many in each tensor, by lot",
    "principal": "the largest of the base's rebuilt from its leading directions",
    "low-magnitude": "the smallest weights of the base",
    "safe": "all but what is principal and not small",
}
chosen = comparison.need()
comparison.heading("Its subnetwork", chosen, trail=(("Overview", "pages/run/overview.py", {}),))
comparison.need_rows(chosen.summary("by_tensor"), "measurement")
first, second, _ = st.columns([4, 4, 4])
above = links.switch(first, "Moved when |D| >", ("0", "1e-5"), "above")
links.switch(second, "By", subnetwork.BY, "by")
figure.show("densities", chosen)

st.header("As a file, to train it alone", anchor=False)
first, second = st.columns([5, 7], vertical_alignment="bottom")
kind = links.choose(first, "Mask", KINDS, "mask")
second.caption(f"{plain(MEANING[kind])[0].upper()}{plain(MEANING[kind])[1:]}.")
words = address.word_of(chosen.key, st.session_state[address.NAMES])
keys = [words, "OTHER"] if kind in SETS else [words]
options = ["--density", "0.1"] if kind in OF_BASE else ["--threshold", above]
options = options if kind == VISIBLE else ["--kind", kind, *options]
command = ["opdviz", "subnetwork", *keys, *options, "--out", "mask.safetensors"]
st.code(shlex.join(command), language="bash", wrap_lines=True)
st.caption("Then, in a trainer of transformers or trl; a loop of one's own calls `train_only`.")
st.code(TRAIN, language="python", wrap_lines=True)

st.header("A part of its moves, to evaluate it", anchor=False)
figure.reading(
    "Writes a checkpoint in which only the largest moves are kept: your own evaluation of it at"
    " 50, 10 and 5 % beside `--by random` says how few are enough."
)
sides = [str(side.path) for side in (chosen.manifest.base, chosen.manifest.tuned)]
keep = ["--keep-top", "10%", "--by", "size", "--out", "kept10"]
st.code(shlex.join(["opdviz", "apply", *sides, *keep]), language="bash", wrap_lines=True)

st.header("What it takes to send", anchor=False)
one = several.Runs((chosen,))
sent = one.related(PAYLOAD)
if sent is None:
    several.ask_to_relate(one, "What the update takes to send", "Count the bytes", PAYLOAD)
else:
    sent_view = run_payload.of_one(chosen.manifest.title, sent)
    with figure.drawn("payload", sent_view, figure.stem_of(chosen.name, "payload", {})):
        pass
