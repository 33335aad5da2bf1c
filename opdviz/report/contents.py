"""What a report holds: views of the app in sections, each drawn by the function that draws it on a
page, and tables beside them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from opdviz import doctor, views
from opdviz.doctor import outstanding
from opdviz.errors import OpdvizError, RequestError, one_line
from opdviz.runs import headlines
from opdviz.store import board
from opdviz.store.store import Store, Stored
from opdviz.tables import by_tensor, protocols
from opdviz.views import Reader, Several, View, run_overlap
from opdviz.views.readers import several_of
from opdviz.views.runs import names_of
from opdviz.words import plain

MAPS = ("relative_norm", "sparsity_absolute", "stable_rank", "projection_joint")
OF_RUN = (
    ("Which coordinates moved", ("moved_given_size", "coverage", "sparsity", "sparse_or_small")),
    ("In which directions", ("stable_rank", "tails", "projection", "rotation")),
    ("Were steps rounded away", ("fingerprint",)),
)
OF_TENSOR = ("energy", "spectra", "ranks", "angles", "intruders", "moved", "magnitudes")
OF_RUNS = ("run_headlines", "run_sizes", "run_maps", "run_against")
ALIKE = "Do they move alike?"
NOT_RELATED = "Nobody worked that out yet: `opdviz overlap` of these runs does."
RELATIONS_CAPTION = "Coordinates that both moved, under every probe"
MOST_MOVED = 3  # tensors shown where nobody chose any
SIGNS = {"error": "Wrong", "warning": "Look at this", "note": "Noted"}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, Markdown below it, and what follows: views, and tables with their captions."""

    title: str
    text: str = ""
    views: tuple[View, ...] = ()
    tables: tuple[tuple[str, pd.DataFrame], ...] = ()
    level: int = 2


def sections(
    store: Store, comparisons: Sequence[Stored], *, protocol: str, tensors: Sequence[str]
) -> Iterator[Section]:
    """All of a report: of several runs what sets them apart comes first.

    Raises
        RequestError: a tensor is in none of them, a run is not whole, or they are on several bases.
    """
    several = several_of(store, comparisons)
    of_key = {reader.manifest.key: reader for reader in several.readers}
    readers = [of_key[comparison.key] for comparison in comparisons]
    checked(comparisons, readers, tensors)
    if len(comparisons) > 1:
        yield from side_by_side(comparisons, several, protocol, tensors)
        yield together(several)
    for comparison, reader in zip(comparisons, readers, strict=True):
        of_run = of_one(comparison, reader, protocol, tensors)
        if len(comparisons) > 1:
            yield Section(comparison.manifest.title)
            of_run = (replace(section, level=3) for section in of_run)
        yield from of_run


def checked(
    comparisons: Sequence[Stored], readers: Sequence[Reader], tensors: Sequence[str]
) -> None:
    """Refuse what cannot be reported. Raises as `sections` does."""
    for comparison in comparisons:
        if not comparison.manifest.complete:
            name = one_line(comparison.name, limit=60)
            raise RequestError(f"report({name}): it is not compared to its end; compare it first.")
    bases = {comparison.manifest.base.fingerprints for comparison in comparisons}
    if len(bases) > 1:
        raise RequestError(f"report: found runs on {len(bases)} bases; expected one.")
    names = {name for reader in readers for name in reader.summary("by_tensor")["name"]}
    for tensor in tensors:
        if tensor not in names:
            raise RequestError(
                f"report --tensor {one_line(tensor, limit=80)}: no such tensor; `opdviz show KEY"
                " tensors` lists them."
            )


def of_one(
    comparison: Stored, reader: Reader, protocol: str, tensors: Sequence[str]
) -> Iterator[Section]:
    """One run: its headline, verdicts, maps, directions, coordinates, tensors and pins."""
    draw = partial(views.draw, reader=reader)
    yield Section(
        "Headline",
        views=(draw("headline", state={}),),
        tables=(headline_table([comparison], [reader], protocol),),
    )
    yield Section("Verdicts", verdicts(comparison, reader))
    rows = reader.summary("by_tensor")
    maps = [name for name in MAPS if name in rows and rows[name].notna().any()]
    yield Section(
        "Where it moved", views=tuple(draw("layers", state={"quantity": name}) for name in maps)
    )
    for title, names in OF_RUN:
        yield Section(title, views=tuple(draw(name, state={}) for name in names))
    for tensor in tensors or most_moved(rows):
        if tensor in set(rows["name"]):
            drawn = tuple(draw(name, state={"tensor": tensor}) for name in OF_TENSOR)
            yield Section(tensor, views=drawn)
    for pin in pins_of(comparison):
        yield Section("Pinned", plain(pin["caption"], limit=4_000), (pinned(reader, pin),))


def headline_table(
    comparisons: Sequence[Stored], readers: Sequence[Reader], protocol: str
) -> tuple[str, pd.DataFrame]:
    """The headline of some runs beside its chance levels and what was published."""
    measured = [
        headlines.Measured(name, comparison.manifest, protocols.headline(comparison, protocol))
        for name, comparison in zip(names_of(readers), comparisons, strict=True)
    ]
    caption = f"Under protocol {protocol}, in percent but for ranks and angles"
    return caption, headlines.table(measured, protocol).dropna(axis="columns", how="all")


def verdicts(comparison: Stored, reader: Reader) -> str:
    """The doctor's findings and what stands out, as Markdown."""
    findings = doctor.examine(comparison)
    lines = [f"- **{SIGNS[one.severity]}**: {plain(one.sentence, limit=600)}" for one in findings]
    lines = lines or [f"None of {len(doctor.RULES)} rules found anything out of the ordinary."]
    sentences, looked_at = outstanding.outstanding(
        reader.summary("by_tensor"), reader.summary("blocks"), findings
    )
    lines += ["", "What stands out:", ""]
    lines += [f"- {plain(one.sentence, limit=600)}" for one in sentences] or [
        "Nothing, by these rules."
    ]
    return "\n".join([*lines, "", f"{looked_at:,} numbers were looked at. {outstanding.CAUTION}"])


def most_moved(rows: pd.DataFrame) -> list[str]:
    """The matrices of the largest relative norm."""
    matrices = by_tensor.matrices(rows).dropna(subset=["stable_rank"])
    return matrices.nlargest(MOST_MOVED, "relative_norm")["name"].tolist()


def pins_of(comparison: Stored) -> list[dict]:
    """The board's pins; none where it is damaged, which its page says."""
    try:
        return board.read(comparison.folder)["pins"]
    except OpdvizError:
        return []


def pinned(reader: Reader, pin: dict) -> View:
    """A pin's view, in its state."""
    return views.draw(pin["view"], reader, views.clean(pin["state"]))


def side_by_side(
    comparisons: Sequence[Stored], several: Several, protocol: str, tensors: Sequence[str]
) -> Iterator[Section]:
    """What sets several runs apart."""
    readers = several.readers
    quantity = {"quantity": "relative_norm"}
    yield Section(
        "Runs side by side",
        views=tuple(views.draw_runs(name, several, quantity) for name in OF_RUNS),
        tables=(headline_table(comparisons, readers, protocol),),
    )
    for tensor in tensors or most_moved(readers[0].summary("by_tensor"))[:1]:
        curves = ("energy", "spectra", "angles")
        states = [{"tensor": tensor, "curve": curve} for curve in curves]
        drawn = tuple(views.draw_runs("run_curves", several, state) for state in states)
        yield Section(tensor, views=drawn)


def together(several: Several) -> Section:
    """How several runs lie to each other, as far as somebody worked it out."""
    related = run_overlap.related(several)
    if related is None:
        return Section(ALIKE, NOT_RELATED)
    states = [{"relation": relation} for relation in run_overlap.RELATIONS]
    drawn = [views.draw_runs("overlap_matrix", several, state) for state in states]
    drawn += [views.draw_runs(name, several, {}) for name in ("overlap_map", "overlap_agreement")]
    if run_overlap.similarities(several) is not None:
        drawn.append(views.draw_runs("overlap_directions", several, {}))
    rows = run_overlap.numbers(related, run_overlap.SAME, "model")
    return Section(ALIKE, views=tuple(drawn), tables=((RELATIONS_CAPTION, rows),))
