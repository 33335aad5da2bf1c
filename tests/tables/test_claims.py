"""What a coverage claims: beyond all blind updates, and beyond the update turned at random."""

import numpy as np
import pandas as pd

from opdviz.tables.by_tensor import coverage_claims, with_relative_ranks


def test_a_claim_lies_beyond_both_and_what_lies_beyond_one_is_withheld():
    rows = pd.DataFrame(
        {
            "m_coverage": [0.5, 0.5, 0.01, 0.3, 0.5, 0.5],
            "m_blind_low": [0.1, 0.1, 0.1, 0.1, 0.0, 0.1],
            "m_blind_high": [0.4, 0.4, 0.4, 0.4, 0.9, 0.4],
            "m_visible": [5_000, 5_000, 5_000, 5_000, 5_000, 60],
            "m_turned_low": [0.2, 0.2, np.nan, 0.2, 0.2, 0.2],
            "m_turned_high": [0.45, 0.6, np.nan, 0.45, 0.45, 0.45],
        }
    )
    claims = coverage_claims(rows, "m")
    assert claims["telling"].tolist() == [True] * 4 + [False] * 2
    assert claims["above"].tolist() == [True] + [False] * 5
    assert claims["below"].tolist() == [False, False, True, False, False, False]
    assert claims["withheld"].tolist() == [False, True] + [False] * 4
    # A comparison of before has no turned updates, and claims as it did.
    before = coverage_claims(rows.drop(columns=["m_turned_low", "m_turned_high"]), "m")
    assert before["above"].tolist() == [True, True] + [False] * 4


def test_ranks_wait_for_each_other_while_a_run_is_computed():
    rows = pd.DataFrame({"name": ["a"], "entropy_rank_of_base": [2.0], "entropy_rank": [1.0]})
    assert list(with_relative_ranks(rows)) == ["name", "entropy_rank"]
