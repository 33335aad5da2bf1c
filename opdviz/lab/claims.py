"""What the papers claim, and whether the lab's runs show it: each claim a question with a written
rule.

A rule looks at every seed that has what it asks for, and says how many these are. `seen here` and
`opposite here` need all of them on one side; anything between is `not seen here`, and what the runs
have no power to answer is `not judged`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from opdviz.lab import rules
from opdviz.lab.judging import NOT_JUDGED, NOT_SEEN, OPPOSITE, SEEN, UNKNOWN, Judgement, Runs
from opdviz.tables import published
from opdviz.words import number

RANDOM = "random mask same density"
KINDS = (SEEN, NOT_SEEN, OPPOSITE, NOT_JUDGED, UNKNOWN)


@dataclass(frozen=True)
class Claim:
    """A claim: its words, where the paper's numbers stand, and the rule, which judges it."""

    says: str
    numbers: Callable[[], str]
    rule: Callable[[Runs], Judgement]


def quoted(quantity: str, recipe: str = "OPD", unit: str = "%") -> Callable[[], str]:
    """The range of a paper's numbers for a recipe."""

    def text() -> str:
        rows = [r for r in published.rows(quantity, protocol="A") if r["recipe"] == recipe]
        values = sorted(r["value"] for r in rows)
        return (
            f"{number(values[0])} to {number(values[-1])} {unit} ({len(rows)} pairs)"
            if values
            else ""
        )

    return text


def scores(*recipes: str) -> Callable[[], str]:
    """The paper's scores of some ways to train."""

    def text() -> str:
        rows = [r for r in published.rows("score_peak_aime_mean16") if r["recipe"] in recipes]
        return ", ".join(f"{r['recipe']} {r['value']:g} %" for r in rows)

    return text


def covered() -> str:
    """The paper's overlap of OPD and RLVR masks."""
    rows = {
        (r["pair"], r["quantity"]): r["value"]
        for r in published.numbers()
        if r["recipe"] == "overlap"
    }
    pair = "DS-Qwen OPD in DeepScaleR RLVR"
    return f"{rows[pair, 'a_in_b']:g} % of the OPD mask, chance {rows[pair, 'a_in_b_chance']:g} %"


PRINCIPAL, SMALL = (f"coverage_{mask}_10pct" for mask in ("principal", "low_magnitude"))
CLAIMS = (
    Claim(
        "OPD changes fewer coordinates than offline distillation.",
        quoted("sparsity_absolute_1e-5"),
        rules.sparse,
    ),
    Claim(
        "Changes are spread over the layers and heavy in FFN.",
        quoted("energy_share_ffn"),
        rules.spread,
    ),
    Claim(
        "Updates are full-rank by count, yet concentrated.",
        quoted("top16_energy"),
        rules.concentrated,
    ),
    Claim(
        "Updates lie off the base's leading directions.",
        lambda: "below 1 % at 10 % (chance: 1 %)",
        rules.off_principal,
    ),
    Claim(
        "Few moved coordinates are principal weights.",
        quoted(PRINCIPAL),
        rules.banded("principal", above=False),
    ),
    Claim(
        "Moved coordinates are weights near zero.",
        quoted(SMALL),
        rules.banded("low_magnitude", above=True),
    ),
    Claim(
        "The subnetwork alone recovers nearly everything.",
        scores("full training", "OPD mask only"),
        rules.recovers,
    ),
    Claim(
        "A random mask of its density does worse.",
        scores("OPD mask only", RANDOM),
        rules.beats_random,
    ),
    Claim(
        "The mask of RL serves as well.",
        scores("full training", "RLVR mask only"),
        rules.other_mask,
    ),
    Claim("OPD and RL move the same coordinates.", covered, rules.shared),
    Claim("SGD falls behind AdamW.", scores("AdamW 1e-6", "SGD 1e-2"), rules.behind),
)


def verdicts(tables: dict[str, pd.DataFrame]) -> list[dict]:
    """Every claim: what the paper says and gives, what the runs here give, the verdict, and on how
    many seeds it rests.
    """
    runs, rows = Runs(tables), []
    for claim in CLAIMS:
        judgement = claim.rule(runs)
        rows.append(
            {
                "claim": claim.says,
                "published": claim.numbers(),
                "here": judgement.text,
                "verdict": judgement.verdict,
            }
            | {"seeds": judgement.seeds}
        )
    return rows


def tally(rows: list[dict]) -> str:
    """How many verdicts there are of each kind.

    >>> tally([{"verdict": SEEN}, {"verdict": SEEN}, {"verdict": UNKNOWN}])
    '2 seen here, 0 not seen here, 0 opposite here, 1 not measured yet'
    """
    counts = {kind: sum(row["verdict"] == kind for row in rows) for kind in KINDS}
    always = (SEEN, NOT_SEEN, OPPOSITE)
    return ", ".join(f"{total} {kind}" for kind, total in counts.items() if total or kind in always)
