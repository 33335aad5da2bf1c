"""A figure by its name and by words, as a command or a notebook asks for it."""

import shlex
from collections.abc import Mapping, Sequence

from opdviz import views
from opdviz.errors import RequestError, one_line
from opdviz.store.store import Store, Stored
from opdviz.views import filters
from opdviz.views.readers import reader_of, several_of
from opdviz.views.runs import names_of
from opdviz.views.view import Drawing, View


def draw(
    store: Store, comparisons: Sequence[Stored], name: str, words: Mapping[str, str] | None = None
) -> View:
    """A view of a comparison, or of several on one base, in the state that some words mean; it has
    a figure.

    Raises
        RequestError: the view, a key or a value is unknown; the runs are on several bases; there is
            nothing to draw, and why.
    """
    drawing = drawing_of(name, len(comparisons))
    bases = {comparison.manifest.base.fingerprints for comparison in comparisons}
    if len(bases) > 1:
        raise RequestError(f"figure: found runs on {len(bases)} bases; expected one.")
    if len(comparisons) == 1:
        reader = reader_of(comparisons[0])
        view = views.draw(name, reader, state_of(name, drawing, words or {}, [reader.name]))
    else:
        several = several_of(store, comparisons)
        names = names_of(several.readers)
        view = views.draw_runs(name, several, state_of(name, drawing, words or {}, names))
    if view.figure is None:
        raise RequestError(f"figure {name}: nothing to draw. {one_line(view.reading)}")
    return view


def drawing_of(name: str, runs: int) -> Drawing:
    """How a view of one run, or of several, is drawn.

    Raises
        RequestError: there is none of this name for so many runs.
    """
    drawings = views.VIEWS if runs == 1 else views.RUN_VIEWS
    if name in drawings:
        return drawings[name]
    of_others = views.RUN_VIEWS if runs == 1 else views.VIEWS
    if name in of_others:
        expected = "two runs or more on one base" if runs == 1 else "one comparison"
        raise RequestError(f"figure {name}: found {runs} of them; expected {expected}.")
    what = "one comparison" if runs == 1 else "several runs"
    name = one_line(name, limit=40)
    raise RequestError(f"figure {name!r} is unknown; of {what} there are: {', '.join(drawings)}.")


def state_of(
    name: str, drawing: Drawing, words: Mapping[str, str], names: Sequence[str]
) -> dict[str, object]:
    """The state that words mean by key.

    Raises
        RequestError: the view does not know a key, or a value does not fit.
    """
    state = {}
    for key, word in words.items():
        if key not in drawing.keys:
            keys = f"it knows {', '.join(drawing.keys)}" if drawing.keys else "it takes none"
            raise RequestError(f"figure {name}: {one_line(key, limit=40)!r} is unknown; {keys}.")
        state[key] = views.parsed(key, str(word), names)
        if state[key] is None:
            raise RequestError(
                f"figure {name}, {key}: found {one_line(word, limit=80)!r}; expected"
                f" {views.KEYS[key].expected}."
            )
    if "tensor" in drawing.keys and "tensor" not in state:
        raise RequestError(
            f"figure {name}: expected tensor=NAME; `opdviz show KEY tensors` lists them."
        )
    return state


def command(names: Sequence[str], view: str, state: Mapping[str, object], out: str) -> str:
    """The command that draws a view of some runs in a state.

    >>> command(["lab opd"], "layers", {"quantity": "stable_rank", "over": True}, "map.pdf")
    "opdviz figure 'lab opd' layers --set quantity=stable_rank over=true --out map.pdf"
    """
    of_view = {
        key: value
        for key, value in views.state_of(view, dict(state)).items()
        if value not in ("", filters.ANY)
    }
    words = [f"{key}={word_of(key, value, names)}" for key, value in of_view.items()]
    pieces = ["opdviz", "figure", *names, view, *(["--set", *words] if words else [])]
    return shlex.join([*pieces, "--out", out])


def word_of(key: str, value: object, names: Sequence[str]) -> str:
    """A value of a state as a word."""
    if value is True:
        return "true"
    if key == "against":
        return names[value]
    return ",".join(names[at] for at in value) if key == "pair" else str(value)
