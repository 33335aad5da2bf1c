"""What pages explain beside the quantities: the questions that group them, formulas typeset, a
glossary, the legends of figures, papers by title. The texts stand in `methods.toml`.
"""

import re
import tomllib
from pathlib import Path

TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
# By question, in the order in which a reader asks: names of quantities.
QUESTIONS: dict[str, tuple[str, ...]] = {
    question["title"]: tuple(question["names"]) for question in TEXTS["questions"]
}
# LaTeX by quantity.
FORMULAS: dict[str, str] = TEXTS["formulas"]
GLOSSARY: dict[str, str] = TEXTS["glossary"]
# What a figure's legend says, explained.
LEGEND: dict[str, str] = TEXTS["legend"]
# Author, year and title by arXiv number.
PAPERS: dict[str, str] = TEXTS["papers"]
ARXIV = re.compile(r"arXiv ([0-9]{4}\.[0-9]{5})")


def anchor(word: str) -> str:
    """Where Methods explains a word: a piece of an address.

    >>> anchor("relative_norm"), anchor("blind update")
    ('relative-norm', 'blind-update')
    """
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")


def sources(text: str) -> list[str]:
    """The papers that a quantity's source names, as Markdown links by title.

    >>> sources("arXiv 2606.07082")
    ['[Shen et al. 2026, On the Geometry of On-Policy Distillation](https://arxiv.org/abs/2606.07082)']
    """
    numbers = ARXIV.findall(text)
    titles = {number: PAPERS.get(number, f"arXiv {number}") for number in numbers}
    return [f"[{title}](https://arxiv.org/abs/{number})" for number, title in titles.items()]
