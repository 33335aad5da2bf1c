"""Views of how runs lie to each other: which coordinates both moved, in which direction, in which
channels, and by how many runs each was moved.

The state has `relation` (one of RELATIONS), `probe` (one of PROBES) and `pair`, the places of two
runs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from opdviz.figures import run_overlap as figures
from opdviz.figures import theme
from opdviz.runs import overlap
from opdviz.views.runs import names_of
from opdviz.views.view import Several, View, view
from opdviz.words import how_many, listing, number, percent, plain

SIMILARITY = "subspace_similarity"  # a table
SAME, OPPOSITE, COSINE, CHANNELS = (
    "same coordinates",
    "opposite signs",
    "cosine",
    "same channels",
)
RELATIONS = (SAME, OPPOSITE, COSINE, CHANNELS)
# The words of a switch, and the probe that each means.
PROBES = {"any change": "exact", "|D| > 1e-5": "absolute", "over 0.1 % of the weight": "relative"}
TERMS = {
    SAME: ("jaccard", "expected_both_rows", "expected_both", "chance_both"),
    OPPOSITE: ("conflict_share", "both_moved"),
    COSINE: ("cosine_of_updates", "cosine_spread"),
    CHANNELS: ("row_jaccard", "column_jaccard"),
}
# log2 of a ratio: from the second on colours are the same, and they reach as far as the first.
LEAST_REACH, REACH = 1.0, 3.0
ERRORS = 3.0  # sampling errors within which a share is that of chance


@dataclass(frozen=True)
class Related:
    """Some runs with what was worked out of them: their names, the tables `overlap`, `relation` and
    `consensus` with these names, and the norms of their updates by run and tensor.
    """

    names: tuple[str, ...]
    base: str
    overlap: pd.DataFrame
    relation: pd.DataFrame
    consensus: pd.DataFrame
    norms: dict[str, pd.Series]

    def pairs(
        self, relation: str, probe: str, by: str, *, pair: tuple[str, str] | None = None
    ) -> pd.DataFrame:
        """One row a pair of runs, or of one `pair`, and group, with what the relation's cells show:
        `colour` (0 is chance), `words` in a cell, `hover` beside it.
        """
        rows = self.overlap if relation == SAME else self.relation
        if pair is not None:
            rows = rows[(rows["run_a"] == pair[0]) & (rows["run_b"] == pair[1])]
        if relation == SAME:
            rows = overlap.gathered(rows[rows["probe"] == PROBES[probe]], by)
        else:
            rows = overlap.related(rows, self.norms, by)
        return rows.assign(**CELLS[relation](rows))


def related(runs: Several, *, by_key: bool = False) -> Related | None:
    """What was worked out of how some runs lie to each other, under their names or keys; `None`
    while it is not there.
    """
    tables = [runs.relation(name) for name in ("overlap", "relation", "consensus")]
    if any(table is None for table in tables):
        return None
    called = runs.keys if by_key else names_of(runs.readers)
    names = dict(zip(runs.keys, called, strict=True))
    return Related(
        tuple(called),
        runs.readers[0].manifest.base.label,
        *(overlap.names_in(table, names) for table in tables),
        {
            name: overlap.delta_norms(reader.summary("by_tensor"))
            for name, reader in zip(called, runs.readers, strict=True)
        },
    )


def similarities(runs: Several) -> pd.DataFrame | None:
    """How alike the leading directions of some runs are, by their names; `None` while it is not
    worked out.
    """
    rows = runs.relation(SIMILARITY)
    names = dict(zip(runs.keys, names_of(runs.readers), strict=True))
    return None if rows is None else overlap.names_in(rows, names)


# What the table can be by.
BY = ("model", "block", "layer", "module", "tensor")


def numbers(related: Related, relation: str, by: str) -> pd.DataFrame:
    """Every number of each two runs, by one of BY: of the same coordinates under every probe, or of
    directions and channels.
    """
    if relation == SAME:
        return overlap.gathered(related.overlap, by)
    rows = overlap.related(related.relation, related.norms, by)
    return rows.rename(columns={"cosine": "cosine_of_updates"})  # not that of base and tuned


def same_cells(rows: pd.DataFrame) -> dict:
    """Coloured by how many times more both moved than sizes and rows explain; the Jaccard index."""
    rows = rows.assign(
        over_chance=rows["both"] / rows["chance_both"].where(rows["chance_both"] > 0)
    )
    hover = [
        f"{number(row.over_rows)} times what sizes and rows explain,"
        f"<br>{number(row.over_size)} times what sizes explain, {number(row.over_chance)} times"
        f" chance<br>Jaccard {number(row.jaccard)}, by chance {number(row.jaccard_chance)}"
        f"<br>{percent(row.a_in_b)} of {theme.literal(row.run_a)}'s lie in"
        f" {theme.literal(row.run_b)}'s, {percent(row.b_in_a)} the other way"
        for row in rows.itertuples()
    ]
    with np.errstate(divide="ignore"):
        colour = np.log2(rows["over_rows"].astype(float)).clip(-REACH, REACH)
    return {
        "colour": colour,
        "words": [f"{number(one, 2)}" for one in rows["jaccard"]],
        "hover": hover,
    }


def opposite_cells(rows: pd.DataFrame) -> dict:
    """Coloured by how far the share of opposite signs is from a half: agreement is positive."""
    hover = [
        f"{percent(row.conflict_share)} of {row.both_moved:,} that both moved have opposite signs"
        f"<br>chance 50 % ± {percent(row.conflict_error)}"
        for row in rows.itertuples()
    ]
    return {
        "colour": 1.0 - 2.0 * rows["conflict_share"].astype(float),
        "words": [percent(share, 2) for share in rows["conflict_share"]],
        "hover": hover,
    }


def cosine_cells(rows: pd.DataFrame) -> dict:
    """Coloured by the cosine of the updates."""
    hover = [
        f"cosine {number(row.cosine)}<br>chance 0 ± {number(row.cosine_spread, 2)}"
        for row in rows.itertuples()
    ]
    words = [number(one, 2) for one in rows["cosine"]]
    return {"colour": rows["cosine"].astype(float), "words": words, "hover": hover}


def channel_cells(rows: pd.DataFrame) -> dict:
    """Coloured by how many times more of the top channels are shared than by chance, rows and
    columns together.
    """
    index = (rows["row_jaccard"] + rows["column_jaccard"]) / 2
    chance = (rows["row_jaccard_chance"] + rows["column_jaccard_chance"]) / 2
    hover = [
        f"top rows: Jaccard {number(row.row_jaccard)} (chance {number(row.row_jaccard_chance)})"
        f"<br>top columns: {number(row.column_jaccard)}"
        f" (chance {number(row.column_jaccard_chance)})"
        for row in rows.itertuples()
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        colour = np.log2(index / chance).clip(-REACH, REACH)
    return {"colour": colour, "words": [number(one, 2) for one in index], "hover": hover}


CELLS = {
    SAME: same_cells,
    OPPOSITE: opposite_cells,
    COSINE: cosine_cells,
    CHANNELS: channel_cells,
}
AS_RATIOS = (SAME, CHANNELS)


def relation_of(state: dict) -> tuple[str, str]:
    """The relation and the probe that a state names, or the first of each."""
    relation, probe = state.get("relation"), state.get("probe")
    return (
        relation if relation in RELATIONS else SAME,
        probe if probe in PROBES else next(iter(PROBES)),
    )


def reach_of(relation: str, rows: pd.DataFrame) -> float:
    """How far from chance colours reach: as far as the values, within bounds; to 1 for a share or a
    cosine.
    """
    if relation not in AS_RATIOS:
        return 1.0
    return float(np.clip(rows["colour"].abs().max(), LEAST_REACH, REACH))


def what_of(relation: str, probe: str) -> str:
    """What cells show, as a title begins."""
    words = {
        SAME: f"Coordinates that both moved ({probe}), over what sizes and rows explain",
        OPPOSITE: "Opposite signs among the coordinates that both moved",
        COSINE: "Cosine of the updates",
        CHANNELS: "Top tenth of rows and columns that both share, over chance",
    }
    return words[relation]


def matrix(related: Related, state: dict) -> View:
    """Every two runs: how they lie to each other."""
    relation, probe = relation_of(state)
    rows = related.pairs(relation, probe, "model")
    place = {name: at for at, name in enumerate(related.names)}
    size = len(related.names)
    values = np.full((size, size), np.nan)
    words, hovers = ([[""] * size for _ in range(size)] for _ in range(2))
    for row in rows.itertuples():
        for a, b in ((row.run_a, row.run_b), (row.run_b, row.run_a)):
            at = place[a], place[b]
            values[at] = row.colour
            words[at[0]][at[1]] = row.words
            pair = f"{theme.literal(row.run_a)} and {theme.literal(row.run_b)}"
            hovers[at[0]][at[1]] = f"<b>{pair}</b><br>{row.hover}"
    figure = figures.matrix(
        related.names,
        values,
        words,
        hovers,
        reach=reach_of(relation, rows),
        as_ratios=relation in AS_RATIOS,
        what=what_of(relation, probe).lower(),
    )
    title = f"{what_of(relation, probe)}: runs on {related.base}"
    return view(title, matrix_reading(relation, rows), figure, table_of(rows), TERMS[relation])


def table_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without what only cells need."""
    return rows.drop(columns=["colour", "words", "hover"])


def matrix_reading(relation: str, rows: pd.DataFrame) -> str:
    """The two runs that lie nearest to each other, and the two that lie farthest apart."""
    rows = rows.dropna(subset=["colour"])
    if rows.empty:
        return "No two of these runs moved anything that could be related."
    ordered = rows.sort_values("colour", ascending=False, kind="stable")
    first, last = ordered.iloc[0], ordered.iloc[-1]
    near = f"{plain(first['run_a'], limit=40)} and {plain(first['run_b'], limit=40)}"
    far = f"{plain(last['run_a'], limit=40)} and {plain(last['run_b'], limit=40)}"
    say = {
        SAME: same_words,
        OPPOSITE: opposite_words,
        COSINE: cosine_words,
        CHANNELS: channel_words,
    }
    text = f"**{near}: {say[relation](first)}**"
    return f"{text}." if len(ordered) == 1 else f"{text}; {far}: {say[relation](last)}."


def same_words(row: pd.Series) -> str:
    """How many times what sizes and rows explain both moved."""
    return (
        f"{number(row['over_rows'])} times what sizes and rows of the weights alone explain"
        f" ({number(row['both'] / row['chance_both'])} times chance; Jaccard"
        f" {number(row['jaccard'])})"
    )


def opposite_words(row: pd.Series) -> str:
    """The share of opposite signs beside a half and its error."""
    off = abs(row["conflict_share"] - 0.5) / row["conflict_error"]
    verdict = ", as by chance" if off <= ERRORS else ""
    return (
        f"of the coordinates that both moved {percent(row['conflict_share'])} went in opposite"
        f" directions (chance 50 % ± {percent(row['conflict_error'], 2)}){verdict}"
    )


def cosine_words(row: pd.Series) -> str:
    """The cosine beside its spread."""
    verdict = ", as by chance" if abs(row["cosine"]) <= ERRORS * row["cosine_spread"] else ""
    return f"cosine {number(row['cosine'])} (chance 0 ± {number(row['cosine_spread'], 2)}){verdict}"


def channel_words(row: pd.Series) -> str:
    """The shared channels beside chance."""
    return (
        f"Jaccard of the top rows {number(row['row_jaccard'])}, of the top columns"
        f" {number(row['column_jaccard'])} (chance {number(row['row_jaccard_chance'])})"
    )


def pair_map(related: Related, state: dict) -> View:
    """Two runs by layer and module."""
    relation, probe = relation_of(state)
    a, b = pair_of(related, state)
    rows = related.pairs(relation, probe, "cell", pair=(a, b)).dropna(subset=["layer"])
    title = f"{what_of(relation, probe)}, by layer and module"
    if rows.empty or not rows["colour"].notna().any():
        return View(title, "These two runs share nothing of this in any layer.")
    rows = rows[rows.groupby("module")["colour"].transform("count") > 0]
    of_pair = related.relation[(related.relation["run_a"] == a) & (related.relation["run_b"] == b)]
    blocks = overlap.placed(of_pair).groupby("module")["block"].first()
    rows = rows.assign(block=rows["module"].map(blocks))
    where = [
        f"layer {row.layer} · {theme.literal(row.module)}<br>{row.hover}"
        for row in rows.itertuples()
    ]
    figure = figures.pair_map(
        rows.assign(hover=where),
        reach=reach_of(relation, rows),
        as_ratios=relation in AS_RATIOS,
        what=what_of(relation, probe).lower(),
    )
    by_module = rows.groupby("module")["colour"].median().dropna().sort_values()
    most = listing([plain(module) for module in by_module.index[::-1][:2]])
    least = plain(by_module.index[0])
    reading = f"{plain(a, limit=40)} and {plain(b, limit=40)} lie nearest in {most}"
    reading += f", farthest in {least}." if len(by_module) > 2 else "."
    return view(f"{title}: {a} and {b}", reading, figure, table_of(rows), TERMS[relation])


def pair_of(related: Related, state: dict) -> tuple[str, str]:
    """The two runs that a state names by their places, in their order; the first two without."""
    at = state.get("pair") or (0, 1)
    first, second = sorted(at)
    return related.names[first], related.names[second]


def agreement(related: Related, state: dict) -> View:
    """By how many runs a coordinate was moved, beside what the sizes of the weights give."""
    _, probe = relation_of(state)
    rows = overlap.agreement(related.consensus)
    rows = rows[rows["probe"] == PROBES[probe]]
    title = f"By how many runs a coordinate was moved ({probe})"
    if rows.empty:
        return View(title, "No tensor is in all of these runs.")
    total, runs = float(rows["count"].sum()), int(rows["runs"].iloc[0])
    shares = rows.assign(share=rows["count"] / total, expected=rows["expected"] / total)
    every = shares.loc[shares["moved_by"] == runs].iloc[0]
    none = shares.loc[shares["moved_by"] == 0].iloc[0]
    times = every["share"] / every["expected"] if every["expected"] else None
    reading = (
        f"All {runs} runs moved {percent(every['share'])} of the coordinates, {number(times)} times"
        f" what the sizes of the weights alone give; none of them moved {percent(none['share'])}"
        f" (given the sizes {percent(none['expected'])})."
    )
    figure = figures.agreement(shares)
    terms = ("moved_by", "expected")
    return view(f"{title}: runs on {related.base}", reading, figure, rows, terms)


def directions(related: Related, table: pd.DataFrame, state: dict) -> View:
    """How alike the leading directions of each two runs are, beside chance and rotated updates."""
    title = f"Leading directions that two updates share: runs on {related.base}"
    rows = overlap.similarities(table)
    rows = rows[rows["ranks"] == rows["ranks"].iloc[0]] if len(rows) else rows
    if rows.empty:
        return View(title, "No matrix of these runs has so many directions.")
    best = rows.loc[rows["similarity"].idxmax()]
    beyond = int(rows["beyond"].sum())
    k = "a tenth of the" if best["ranks"] != "16" else "16"
    reading = (
        f"**{plain(best['run_a'], limit=40)} and {plain(best['run_b'], limit=40)} share"
        f" {percent(best['similarity'])} of {k} {best['side']} directions in the median matrix**"
        f" (chance {percent(best['chance'])}, updates turned at random"
        f" {percent(best['null_low'])} to {percent(best['null_high'])}). Above what turned updates"
        f" share: {how_many(beyond, int(rows['matrices'].sum()))} of all pairs' matrices."
    )
    figure = figures.directions(rows)
    return view(title, reading, figure, table, ("similarity", "null_high"))


OVERLAP_VIEWS = {
    "overlap_matrix": matrix,
    "overlap_map": pair_map,
    "overlap_agreement": agreement,
}
