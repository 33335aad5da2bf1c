"""What is drawn and read once for all sessions: frames and views of a comparison, by what they
depend on. Nobody changes them.
"""

import json

import pandas as pd
import streamlit as st

from opdviz import doctor, tables
from opdviz.doctor import outstanding as standing_out
from opdviz.store.store import Stored
from opdviz.tables import by_tensor, protocols, stored, summaries
from opdviz.views import Reader, Several, View, draw, draw_runs


@st.cache_resource(max_entries=300, show_spinner=False)
def view(folder: str, stamp: tuple, name: str, state: str, _reader: Reader) -> View:
    """A view in a state, which is JSON."""
    return draw(name, _reader, json.loads(state))


@st.cache_resource(max_entries=100, show_spinner=False)
def runs_view(stamps: tuple, name: str, state: str, _several: Several) -> View:
    """A view of several runs in a state, which is JSON; `stamps` has the folder of each and its
    stamp.
    """
    return draw_runs(name, _several, json.loads(state))


@st.cache_resource(max_entries=100, show_spinner=False)
def headline(folder: str, stamp: tuple, protocol: str, _comparison: Stored) -> list[dict]:
    """The rows of a protocol."""
    return protocols.headline(_comparison, protocol)


@st.cache_resource(max_entries=200, show_spinner=False)
def summary(folder: str, stamp: tuple, name: str, _comparison: Stored) -> pd.DataFrame:
    """A summary."""
    return summaries.summary(_comparison, name)


@st.cache_resource(max_entries=100, show_spinner=False)
def findings(
    folder: str,
    stamp: tuple,
    _tensors: pd.DataFrame,
    _steps: pd.DataFrame,
    _comparison: Stored,
) -> list[doctor.Finding]:
    """What the doctor finds."""
    unmatched = stored.read(_comparison, "unmatched")
    verdicts = summaries.summary(_comparison, "fingerprint_summary")
    return doctor.examined(doctor.Patient(_tensors, _steps, unmatched, verdicts))


@st.cache_resource(max_entries=100, show_spinner=False)
def outstanding(
    folder: str,
    stamp: tuple,
    _tensors: pd.DataFrame,
    _blocks: pd.DataFrame,
    _findings: list[doctor.Finding],
) -> tuple[list[standing_out.Outstanding], int]:
    """What stands out, and of how many numbers."""
    return standing_out.outstanding(_tensors, _blocks, _findings)


@st.cache_resource(max_entries=1_000, show_spinner=False)
def rows(folder: str, stamp: tuple, table: str, tensor: str, _comparison: Stored) -> pd.DataFrame:
    """One tensor's rows of a stored table."""
    return stored.of_tensor(_comparison, table, tensor)


@st.cache_resource(max_entries=200, show_spinner=False)
def moved_given_size(folder: str, stamp: tuple, tensor: str, _comparison: Stored) -> pd.DataFrame:
    """One tensor's histogram of the base, with what moved, summed over precisions."""
    return by_tensor.moved_given_size(_comparison, name=tensor)


@st.cache_resource(max_entries=200, show_spinner=False)
def table(folder: str, stamp: tuple, name: str, _comparison: Stored) -> pd.DataFrame:
    """A whole table."""
    return tables.table(_comparison, name)
