"""What the doctor finds, as a panel on a page."""

import streamlit as st

from opdviz import doctor
from opdviz.doctor import outstanding
from opdviz.doctor.finding import ERROR, NOTE, WARNING, Finding
from opdviz.tables import precision
from opdviz.ui import cached, figure, links
from opdviz.ui.comparison import Chosen
from opdviz.words import count, plain

COLOURS = {ERROR: "red", WARNING: "orange", NOTE: "blue"}
MOST_LINKS = 3


def panel(chosen: Chosen) -> None:
    """Every finding with its evidence, once every tensor is measured."""
    st.header("Did it move what it should?", anchor=False)
    tensors = chosen.summary("by_tensor")
    if doctor.left_to_measure(chosen.manifest.pairs, tensors, chosen.table("skipped")):
        st.caption(
            "This was compared before the doctor's rules were: comparing it again computes what"
            " they need."
            if chosen.manifest.complete
            else "The doctor waits until every tensor is measured."
        )
        return
    findings = findings_of(chosen)
    rules = count(len(doctor.RULES), "rule")
    figure.reading(
        f"{rules}, {count(len(findings), 'finding')}."
        if findings
        else f"None of {rules} found anything out of the ordinary."
    )
    for at, finding in enumerate(findings):
        line(at, finding)
    verdicts = chosen.summary("fingerprint_summary")
    if len(verdicts) and precision.CUT_OFF not in set(verdicts["verdict"]):  # else a rule says so
        st.caption(precision.sentence(verdicts))
    st.caption(
        "What should have stayed, or moved, can be declared:"
        " `opdviz doctor KEY --expect-frozen 'visual.*'`, whose exit code is for scripts."
    )


def findings_of(chosen: Chosen) -> list[Finding]:
    """What the doctor finds, as far as it is measured."""
    tensors, steps = chosen.summary("by_tensor"), chosen.summary("step_shares")
    if doctor.left_to_measure(chosen.manifest.pairs, tensors, chosen.table("skipped")):
        return []
    return cached.findings(str(chosen.folder), chosen.stamp, tensors, steps, chosen.comparison)


def line(at: int, finding: Finding) -> None:
    """One finding: how bad it is, what it says, and its first tensors to open."""
    left, right = st.columns([1, 6])
    left.badge(finding.severity, color=COLOURS[finding.severity])
    right.markdown(plain(finding.sentence, limit=600))
    if not finding.tensors:
        return
    names = right.container(horizontal=True, vertical_alignment="center")
    for name in finding.tensors[:MOST_LINKS]:
        if names.button(plain(name, limit=80), type="tertiary", key=f"finding_{at}_{name}"):
            links.follow("pages/run/tensor.py", {"tensor": name})
    if (more := len(finding.tensors) - MOST_LINKS) > 0:
        names.caption(f"and {count(more, 'more tensor')}", width="content")


def standing_out(chosen: Chosen) -> None:
    """At most five sentences, each with a way to its view, and of how many numbers they are."""
    st.header("What stands out", anchor=False)
    sentences, looked_at = cached.outstanding(
        str(chosen.folder), chosen.stamp, chosen.summary("by_tensor"), chosen.summary("blocks"),
        findings_of(chosen),
    )  # fmt: skip
    if not sentences:
        figure.reading("Nothing, by these rules.")
    for at, one in enumerate(sentences):
        left, right = st.columns([9, 1], vertical_alignment="center")
        left.markdown(plain(one.sentence, limit=600))
        if one.page and right.button("open", type="tertiary", key=f"outstanding_{at}"):
            links.follow(f"pages/run/{one.page}.py", one.state)
    st.caption(f"{looked_at:,} numbers were looked at. {outstanding.CAUTION}")
