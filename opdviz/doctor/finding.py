"""What rules are, what they look at, and what they find."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from opdviz.measures import identity, magnitude

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
# Columns of a tensor that rules ask for.
LOOKED_AT = (*magnitude.TABLES["tensors"], *list(identity.TABLES["identity"])[1:])


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: a sentence, the tensors that it is of, and the numbers behind it."""

    rule: str
    severity: str
    sentence: str
    tensors: tuple[str, ...] = ()
    evidence: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Patient:
    """A comparison as rules see it: `tensors` with the columns of `quantities_by_tensor`, the
    shares by grid steps, what has no partner, the verdicts on how weights were kept (empty where
    nobody asked), and what was declared.
    """

    tensors: pd.DataFrame
    steps: pd.DataFrame
    unmatched: pd.DataFrame
    precision: pd.DataFrame = field(default_factory=pd.DataFrame)
    expected_frozen: frozenset[str] = frozenset()
    expected_moved: frozenset[str] = frozenset()

    @cached_property
    def weights(self) -> pd.DataFrame:
        """The tensors of floats whose every value is finite; digests are numbers here, equal where
        they are.
        """
        # Of a large model the other columns are most of the time.
        rows = self.tensors[[column for column in LOOKED_AT if column in self.tensors]]
        rows = rows[(rows["nonfinite"].fillna(0) == 0) & rows["base_norm"].notna()]
        # Text is found and grouped ten times as slowly as numbers.
        numbers, _ = pd.factorize(pd.concat([rows["base_digest"], rows["tuned_digest"]]))
        base, tuned = numbers[: len(rows)], numbers[len(rows) :]
        return rows.assign(base_digest=base, tuned_digest=tuned)

    @cached_property
    def matrices(self) -> pd.DataFrame:
        """Of these the matrices of layers: attention and ffn."""
        rows = self.weights
        wide = (rows["rows"].fillna(1) > 1) & (rows["columns"].fillna(1) > 1)
        return rows[wide & rows["block"].isin(["attention", "ffn"]) & rows["layer"].notna()]


@dataclass(frozen=True)
class Rule:
    """One rule: what it asks, how bad a finding is, from where on it is one, what it usually means,
    and who asks it.
    """

    name: str
    question: str
    severity: str
    threshold: float | None
    means: str
    source: str
    find: Callable[[Patient, "Rule"], Iterator[Finding]]

    def finding(self, sentence: str, rows: pd.DataFrame | None = None, **evidence) -> Finding:
        """A finding of the rule: what it says, the tensors' rows, and its numbers."""
        names = () if rows is None else tuple(rows["name"])
        evidence = {"threshold": self.threshold} | evidence
        return Finding(self.name, self.severity, f"{sentence} {self.means}", names, evidence)
