"""Rules on what tensors hold: copies of each other, values at other places, ties, new zeros."""

from collections.abc import Iterator

import pandas as pd

from opdviz.doctor.finding import Finding, Patient, Rule
from opdviz.words import count, how_many, percent

# Values from which on equal tensors are no accident: short norms near 1 may agree.
FEWEST_VALUES = 64
FEWEST_ZEROS = 8  # of a norm one is more than a percent


def in_place(rows: pd.DataFrame) -> pd.DataFrame:
    """The tensors that hold their own values: of others norms and cosines say nothing."""
    misplaced = copies(rows) | exchanged(rows) | rows["rearranged"].notna()
    return rows[~misplaced & (rows["zeroed_rows"].fillna(0) == 0)]


def copies(rows: pd.DataFrame) -> pd.Series:
    """Which tensors are equal in the tuned to one that they were not equal to in the base."""
    of_same = rows.groupby("tuned_digest")["base_digest"].transform("nunique")
    # Zeros are the business of other rules.
    return (of_same > 1) & (rows["numel"] >= FEWEST_VALUES) & (rows["tuned_norm"] > 0)


def exchanged(rows: pd.DataFrame) -> pd.Series:
    """Which tensors hold in the tuned what another one holds in the base, as one of its own."""
    moved = (rows["moved"] > 0) & (rows["numel"] >= FEWEST_VALUES) & (rows["tuned_norm"] > 0)
    return moved & rows["tuned_digest"].isin(rows["base_digest"]) & ~copies(rows)


def copied(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Tensors that are equal in the tuned and were not in the base."""
    rows = patient.weights
    part = rows[copies(rows)]
    if len(part):
        groups = part["tuned_digest"].nunique()
        yield rule.finding(
            f"{count(len(part), 'tensor')} hold the values of another of them in the tuned, and did"
            " not in the base.",
            part.sort_values("tuned_digest", kind="stable"),
            groups=groups,
        )


def rearranged(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Tensors that hold the base's values at other places, or those of another of its tensors."""
    rows = patient.weights
    here = rows[rows["rearranged"].notna() & (rows["moved"] >= rule.threshold)]
    for how, part in here.groupby("rearranged"):
        yield rule.finding(
            f"{count(len(part), 'tensor')} hold the values of their base, {how}.", part
        )
    swapped = rows[exchanged(rows)]
    if len(swapped):
        yield rule.finding(
            f"{count(len(swapped), 'tensor')} hold what another tensor holds in the base.", swapped
        )


def tied_apart(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """A head that was its embedding in the base, and is not in the tuned."""
    for head, embedding in heads_and_embeddings(patient):
        if head["tuned_digest"] != embedding["tuned_digest"]:
            yield rule.finding(
                f"{head['name']} and {embedding['name']} are equal in the base and differ in the"
                " tuned.",
                pd.DataFrame([head, embedding]),
            )


def untied_equal(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """A head that is its embedding on both sides, though no configuration ties them."""
    for head, embedding in heads_and_embeddings(patient):
        if head["tuned_digest"] == embedding["tuned_digest"] and head["moved"]:
            yield rule.finding(
                f"{head['name']} and {embedding['name']} moved, and are equal on both sides.",
                pd.DataFrame([head, embedding]),
            )


def heads_and_embeddings(patient: Patient) -> Iterator[tuple[dict, dict]]:
    """Heads and embeddings that are equal in the base; those that a configuration ties count once,
    and are no two tensors here.
    """
    rows = patient.weights
    rows = rows[rows["kind"] == "matrix"]  # biases that are zero are no copies
    heads, embeddings = (rows[rows["block"] == block] for block in ("head", "embedding"))
    for head in heads.to_dict("records"):
        same = embeddings[embeddings["base_digest"] == head["base_digest"]]
        for embedding in same.to_dict("records"):
            yield head, embedding


def new_zeros(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Weights that are exactly zero in the tuned alone, beside rows that are as a whole."""
    rows = patient.weights
    share = rows["new_zeros"].astype(float) / rows["numel"]
    part = rows[(share > rule.threshold) & (rows["new_zeros"] >= FEWEST_ZEROS)]
    part = part[part["zeroed_rows"].fillna(0) == 0]
    if len(part):
        zeros, weights = int(part["new_zeros"].sum()), int(part["numel"].sum())
        yield rule.finding(
            f"{zeros:,} of {weights:,} weights of {count(len(part), 'tensor')}"
            f" ({percent(zeros / weights)}) became exactly zero.",
            part,
            zeros=zeros,
        )


def zeroed_rows(patient: Patient, rule: Rule) -> Iterator[Finding]:
    """Rows of matrices that hold zeros alone in the tuned, and did not in the base."""
    rows = patient.weights
    part = rows[rows["zeroed_rows"].fillna(0) > 0]
    if len(part):
        zeroed = how_many(int(part["zeroed_rows"].sum()), int(part["rows"].sum()))
        yield rule.finding(
            f"{zeroed.capitalize()} rows of {count(len(part), 'matrix', 'matrices')} became zero.",
            part,
            zeroed=int(part["zeroed_rows"].sum()),
        )
