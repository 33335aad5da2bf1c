"""Every quantity by the question that it answers: meaning, formula, chance level, pitfall, papers;
and a glossary.
"""

import streamlit as st

from opdviz.methods import GLOSSARY, PAPERS, QUESTIONS, anchor
from opdviz.quantities import QUANTITIES
from opdviz.ui import figure, links
from opdviz.words import count, plain

st.title("Methods", anchor=False)
st.markdown(
    "W is the base tensor, T the tuned one, D = T - W the update; a matrix is m x n and r = min(m,"
    " n); $s_1 \\ge s_2 \\ge \\dots$ are the singular values of D, $U_k$ and $V_k$ the leading k"
    " directions of the base, $U'_k$ and $V'_k$ those of the tuned. Coordinates are counted as"
    " stored and, where storage is wider, after rounding both sides to bf16; spectra and geometry"
    " are exact, in float64."
)
word = links.text(st, "Search", "search", placeholder="rank, coverage, blind update, 2606.13657")


def fits(text: str) -> bool:
    """Whether a text holds the word that somebody looks for."""
    return word.lower() in text.lower()


groups = {
    title: [name for name in names if fits(title + figure.everything(QUANTITIES[name]))]
    for title, names in QUESTIONS.items()
}
words = {term: text for term, text in GLOSSARY.items() if fits(f"{term} {text}")}
found = sum(map(len, groups.values()))
if not found and not words:
    st.info("No quantity and no word fits. Try a shorter one.")
    links.end()
st.caption(
    f"{count(found, 'quantity', 'quantities')} and {count(len(words), 'word')}. The name in"
    " brackets is the column in tables and exports."
)
for title, names in groups.items():
    if not names:
        continue
    st.header(title, anchor=anchor(title))
    for name in names:
        with st.container(border=True):
            st.subheader(plain(QUANTITIES[name].label), anchor=anchor(name))
            figure.definition(name, column=True)
if words:
    st.header("Words", anchor="words")
    for term, text in words.items():
        st.subheader(plain(term), anchor=anchor(term))
        st.markdown(plain(text, limit=600))
papers = {number: title for number, title in PAPERS.items() if fits(f"{number} {title}")}
if papers:
    st.header("Papers", anchor="papers")
    for number, title in papers.items():
        st.markdown(f"[{title}](https://arxiv.org/abs/{number}), arXiv {number}")
