"""What is explained: every quantity under one question, every paper with a title or a number, every
word of a legend.
"""

import pytest

from opdviz import methods, views
from opdviz.quantities import QUANTITIES
from opdviz.tables import summaries
from tests.conftest import reader_of

EXPLAINED = [q.name for q in QUANTITIES.values() if q.formula or q.chance or q.pitfall or q.source]


def test_every_quantity_with_more_than_a_meaning_stands_under_one_question():
    listed = [name for names in methods.QUESTIONS.values() for name in names]
    assert sorted(listed) == sorted(EXPLAINED)


def test_every_formula_is_of_a_quantity_and_balanced():
    assert set(methods.FORMULAS) <= set(QUANTITIES)
    for name, formula in methods.FORMULAS.items():
        assert formula.count("{") == formula.count("}") and "$" not in formula, name
    with_formula = {name for name in EXPLAINED if QUANTITIES[name].formula}
    # These are sentences.
    assert with_formula - set(methods.FORMULAS) == {"share", "blind_low", "expected_both_rows"}


def test_anchors_are_one_a_word():
    words = [*EXPLAINED, *methods.GLOSSARY, *methods.QUESTIONS, "words", "papers"]
    assert len({methods.anchor(word) for word in words}) == len(words)


@pytest.mark.parametrize(
    "word",
    ["base", "tuned", "blind update", "null", "principal weights", "visible", "grid step", "tower"]
    + ["OPD", "RLVR", "GRPO", "offline distillation", "self-distillation", "tail", "feasible"],
)
def test_the_field_s_words_are_in_the_glossary(word):
    assert word in methods.GLOSSARY


def test_every_name_in_a_legend_is_explained(golden_store):
    (comparison,) = golden_store.all()
    tensors = summaries.summary(comparison, "by_tensor")
    # One of every block says all that a legend can.
    names = tensors.groupby("block")["name"].first().tolist()
    reader = reader_of(comparison)
    seen = set()
    for view, (_, page, _) in views.VIEWS.items():
        of_tensor = page in ("tensor", "part")
        for state in [{"tensor": name} for name in names] if of_tensor else [{}]:
            if figure := views.draw(view, reader, state).figure:
                seen |= {t.name for t in figure.data if t.name and t.showlegend is not False}
    assert len(seen) > 30 and seen <= set(methods.LEGEND), seen - set(methods.LEGEND)
