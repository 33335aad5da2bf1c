"""Did training move what it should, and nothing else? Answers from the first pass alone: findings
of written rules, each with its evidence.

    findings = examine(comparison, frozen=["visual.*"], moved=["*.self_attn.*"])
"""

import fnmatch
import json
from collections.abc import Sequence

import pandas as pd

from opdviz.doctor.finding import ERROR, SEVERITIES, Finding, Patient, Rule
from opdviz.doctor.rules import RULES
from opdviz.errors import RequestError, one_line
from opdviz.store.store import Stored
from opdviz.tables import stored, summaries

# What rules read; the rest of the first pass is not waited for.
MEASURES = ("magnitude", "sparsity", "identity", "octaves")
# A column that every tensor has of each of them but octaves, of which few tensors can be asked.
OF_MEASURES = ("moved", "unchanged_exact_count", "base_digest")
COLUMNS = ("rule", "severity", "sentence", "tensors", "names", "evidence")
NAMED = 5  # tensors that a finding names


def examine(
    comparison: Stored,
    *,
    frozen: Sequence[str] = (),
    moved: Sequence[str] = (),
    rules: Sequence[Rule] = RULES,
) -> list[Finding]:
    """The findings of a comparison, the worst first; `frozen` and `moved` are patterns of tensors
    that were to stay as they were, or to move.

    Raises
        RequestError: not all of it is measured, a pattern fits no tensor, or one tensor fits both
            kinds.
    """
    return examined(patient_of(comparison, frozen=frozen, moved=moved), rules)


def examined(patient: Patient, rules: Sequence[Rule] = RULES) -> list[Finding]:
    """The findings of some rules, the worst first."""
    findings = [finding for rule in rules for finding in rule.find(patient, rule)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def patient_of(
    comparison: Stored, *, frozen: Sequence[str] = (), moved: Sequence[str] = ()
) -> Patient:
    """What rules look at. Raises as `examine` does."""
    tensors = summaries.summary(comparison, "by_tensor")
    pairs = comparison.manifest.pairs
    if left := left_to_measure(pairs, tensors, stored.read(comparison, "skipped")):
        raise RequestError(
            f"doctor: of {one_line(comparison.name, limit=60)} {pairs - left:,} of {pairs:,}"
            " tensors are measured as far as the rules look; expected all of them: `opdviz compare"
            " BASE TUNED --first-pass`."
        )
    expected = {
        what: fitting(patterns, tensors["name"].tolist(), what)
        for what, patterns in (("frozen", frozen), ("moved", moved))
    }
    if both := expected["frozen"] & expected["moved"]:
        raise RequestError(
            f"doctor: {one_line(min(both), limit=80)} is expected frozen and expected moved; let"
            " the patterns say one of the two."
        )
    return Patient(
        tensors=tensors,
        steps=summaries.summary(comparison, "step_shares"),
        unmatched=stored.read(comparison, "unmatched"),
        precision=summaries.summary(comparison, "fingerprint_summary"),
        expected_frozen=frozenset(expected["frozen"]),
        expected_moved=frozenset(expected["moved"]),
    )


def left_to_measure(pairs: int, tensors: pd.DataFrame, skipped: pd.DataFrame) -> int:
    """How many of the pairs rules would not see yet: neither measured by all of `MEASURES` nor left
    out with a reason, as tensors without elements are.
    """
    names: set[str] = set()
    if {*OF_MEASURES} <= {*tensors.columns}:  # else it is of an earlier version, or not begun
        names |= set(tensors.loc[tensors[[*OF_MEASURES]].notna().all(axis=1), "name"])
    if len(skipped):
        names |= set(skipped.loc[skipped["measure"].isin(MEASURES[:-1]), "name"])
    return pairs - len(names)


def fitting(patterns: Sequence[str], names: list[str], what: str) -> set[str]:
    """The tensors that some patterns fit.

    Raises
        RequestError: one fits none.
    """
    fits: set[str] = set()
    for pattern in patterns:
        here = fnmatch.filter(names, pattern)
        if not here:
            raise RequestError(
                f"doctor --expect-{what} {one_line(pattern, limit=80)}: found none of"
                f" {len(names):,} tensors that it fits; the first is called"
                f" {one_line(names[0], limit=80) if names else 'nothing'}."
            )
        fits |= set(here)
    return fits


def chosen_rules(names: Sequence[str] | None) -> tuple[Rule, ...]:
    """The rules of some names; all without names.

    Raises
        RequestError: an unknown one.
    """
    by_name = {rule.name: rule for rule in RULES}
    for name in names if names is not None else ():
        if name not in by_name:
            raise RequestError(
                f"doctor: rule {one_line(name, limit=40)!r} is unknown; there are:"
                f" {', '.join(by_name)}."
            )
    return tuple(rule for rule in RULES if names is None or rule.name in names)


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong: warnings and notes are for the reader."""
    return all(finding.severity != ERROR for finding in findings)


def table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Findings as the table `findings`: rule, severity, sentence, tensors, names, evidence."""
    rows = [
        {
            "rule": finding.rule,
            "severity": finding.severity,
            "sentence": finding.sentence,
            "tensors": len(finding.tensors),
            "names": "; ".join(finding.tensors[:NAMED]),
            "evidence": json.dumps(finding.evidence),
        }
        for finding in findings
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
