"""The lab's tables: verdicts, recipes, overlaps of runs; and what parts of their moves do."""

import pandas as pd
import streamlit as st

from opdviz.definitions import HEADLINE_SHARE
from opdviz.figures import lab as figures
from opdviz.lab import judging, results
from opdviz.tables import precision
from opdviz.ui import figure, links, tables
from opdviz.words import count

COLUMNS = (
    "recipe", "seeds", "learning_rate", "test", "test_spread", "comparison", "relative_norm",
    "unchanged_absolute", "unchanged_exact", "top16_energy", "top16_energy_chance", "stable_rank",
    "stable_rank_chance", "coverage_principal", "coverage_principal_null_low",
    "coverage_principal_null_high", "coverage_low_magnitude", "coverage_low_magnitude_null_low",
    "coverage_low_magnitude_null_high", "projection_joint", "projection_joint_chance",
    "mask_density",
)  # fmt: skip
COLOURS = {judging.SEEN: "green", judging.OPPOSITE: "orange", judging.NOT_JUDGED: "blue"}


def verdict_lines(verdicts: list[dict]) -> None:
    """A claim a line: what is said of it here, and what was published."""
    for verdict in verdicts:
        left, right = st.columns([1, 6])
        left.badge(verdict["verdict"], color=COLOURS.get(verdict["verdict"], "gray"))
        left.caption(count(verdict["seeds"], "seed") if verdict["seeds"] else "")
        right.markdown(f"**{verdict['claim']}** {verdict['here']}")
        if verdict["published"]:
            right.caption(f"Published (arXiv 2606.13657): {verdict['published']}")


def recipe_table(rows: pd.DataFrame) -> None:
    """A recipe a line, its numbers beside their chance."""
    columns = [column for column in COLUMNS if column in rows]
    rate = st.column_config.NumberColumn("rate", format="scientific")
    tables.quantities_table(rows[columns], "lab_runs", columns={"learning_rate": rate})


def overlap_table(pairs: pd.DataFrame) -> None:
    """A pair of runs a line: their overlap, beside chance and beside what sizes explain."""
    others = {
        "run_a": st.column_config.TextColumn("run"),
        "run_b": st.column_config.TextColumn("beside"),
        "times_chance": st.column_config.NumberColumn("times chance", format="%.3g"),
        "times_expected": st.column_config.NumberColumn("times what sizes explain", format="%.3g"),
    }
    tables.quantities_table(pairs, "lab_overlaps", columns=others)


def parts_kept(found: dict[str, pd.DataFrame]) -> None:
    """How much of a recipe's gain parts of its moves keep, where that was graded."""
    if found["kept"].empty:
        return
    st.header("How few of the moves are enough?", anchor=False)
    line, _ = st.columns([4, 8])
    recipe = links.choose(line, "Recipe", list(found["kept"]["recipe"].unique()), "recipe")
    parts = results.parts_kept(found, recipe)
    figure.reading(results.part_reading(parts, recipe, HEADLINE_SHARE))
    figure.figure(figures.part_kept(parts), "lab_part_kept", parts, ("accuracy",))


def sixteen_bits(found: dict[str, pd.DataFrame]) -> None:
    """Whether two files tell a run of 16-bit weights from one with a copy of float32."""
    runs = results.in_16_bits(found)
    if runs.empty or found["octaves"].empty:
        return
    st.header("What is a copy of float32 good for?", anchor=False)
    figure.reading(results.precision_reading(runs))
    octaves = precision.with_power(found["octaves"])
    octaves = octaves[octaves["recipe"].isin(runs["recipe"])]
    figure.figure(figures.octaves(octaves), "lab_octaves", octaves, ("ratio",))
