"""A report as one HTML file: everything is in it, and it asks nobody for anything."""

import html
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from markdown_it import MarkdownIt
from plotly.offline import get_plotlyjs

from opdviz import __version__
from opdviz.figures import theme
from opdviz.quantities import QUANTITIES
from opdviz.report import contents
from opdviz.report.contents import Section
from opdviz.report.pack import elsewhere
from opdviz.store.store import Store, Stored
from opdviz.views import View

MOST_ROWS = 40  # of the table behind a figure; the app and `show` have all of it
# Nothing may be fetched, whatever a name or a caption says.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
HERE = Path(__file__).parent
STYLE, SCRIPT = ((HERE / f"report.{ending}").read_text("utf-8") for ending in ("css", "js"))
MARKDOWN = MarkdownIt("commonmark", {"html": False})


def written(
    store: Store,
    comparisons: Sequence[Stored],
    *,
    protocol: str = "A",
    tensors: Sequence[str] = (),
    out: str = "report.html",
) -> str:
    """A report of comparisons on one base as a file's text, with the command that makes it again.

    Raises
        RequestError: as `contents.sections` does.
    """
    how = ["--protocol", protocol, *(["--tensor", *tensors] if tensors else [])]
    again = ["opdviz", "report", *(run.name for run in comparisons), *how, "--out", out]
    sections = contents.sections(store, comparisons, protocol=protocol, tensors=tensors)
    return page(comparisons, sections, shlex.join(again), datetime.now(UTC))


def page(
    comparisons: Sequence[Stored], sections: Iterable[Section], command: str, now: datetime
) -> str:
    """The whole file; `command` is what makes it again."""
    every = list(sections)
    title = ", ".join(comparison.manifest.title for comparison in comparisons)
    terms = dict.fromkeys(
        term for section in every for view in section.views for term in view.terms
    )
    parts = [section_html(at, section) for at, section in enumerate(every)]
    links = [
        f"<li{' class=inner' if section.level > 2 else ''}>"
        f'<a href="#s{at}">{html.escape(section.title)}</a></li>'
        for at, section in enumerate(every)
    ]
    body = f"""<h1>What training did to the weights: {html.escape(title)}</h1>
<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>
<main>{"".join(parts)}
{definitions(terms)}
<h2 id="provenance">Provenance</h2>{provenance(comparisons, command, now)}</main>"""
    return document(title, body)


def one_figure(view: View) -> str:
    """A file of one figure, live, with its sentence, the numbers behind it, and definitions."""
    title = html.escape(view.title)
    body = f"<main><h1>{title}</h1>{view_html('figure', view)}{definitions(view.terms)}</main>"
    return document(view.title, body)


def document(title: str, body: str) -> str:
    """A whole file around what stands in it."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{html.escape(title)}</title><style>{STYLE}</style></head>
<body>{body}
<script>{get_plotlyjs()}</script><script>{SCRIPT}</script></body></html>
"""


def definitions(terms: Iterable[str]) -> str:
    """What some quantities are."""
    return f'<h2 id="definitions">Definitions</h2><dl>{"".join(map(definition, terms))}</dl>'


def section_html(at: int, section: Section) -> str:
    """A section with its views and tables."""
    drawn = [view_html(f"f{at}-{i}", view) for i, view in enumerate(section.views)]
    tables = [table_html(frame, caption, len(frame)) for caption, frame in section.tables]
    text = MARKDOWN.render(section.text) if section.text else ""
    heading = f'<h{section.level} id="s{at}">{html.escape(section.title)}</h{section.level}>'
    return "".join([heading, text, *drawn, *tables])


def view_html(name: str, view: View) -> str:
    """A figure under its sentence with the table behind it, or why there is none."""
    reading = MARKDOWN.render(unbadged(view.reading))
    if view.figure is None:
        return f"<p><strong>{html.escape(view.title)}</strong></p>{reading}"
    figure = theme.inked(view.figure, "light")
    # No name in it ends the script or begins another.
    data = figure.to_json().replace("<", "\\u003c")
    height = figure.layout.height or 360
    return (
        f"<figure><figcaption>{reading}</figcaption>"
        f'<div class="plot" id="{name}" role="img" aria-label="{html.escape(theme.alt(figure))}"'
        f' style="height:{height}px"></div>'
        f'<script type="application/json" id="{name}-data">{data}</script>'
        f"<details><summary>The numbers behind it</summary>{table_html(view.data)}</details>"
        "</figure>"
    )


def unbadged(text: str) -> str:
    """A sentence without the app's badges: their words alone."""
    return re.sub(r":[a-z]+-badge\[([^\]]*)\]", r"\1", text)


def table_html(frame: pd.DataFrame, caption: str = "", most: int = MOST_ROWS) -> str:
    """The first rows of a frame, every cell escaped."""
    first_rows = frame.head(most)
    more = (
        f"<p class=quiet>{len(first_rows)} of {len(frame):,} rows.</p>"
        if len(frame) > len(first_rows)
        else ""
    )
    body = first_rows.to_html(
        index=False, border=0, escape=True, na_rep="", float_format="{:.4g}".format
    )
    if caption:
        body = body.replace("<thead>", f"<caption>{html.escape(caption)}</caption><thead>", 1)
    return f'<div class="scroll">{body}</div>{more}'


def definition(term: str) -> str:
    """What a quantity is."""
    q = QUANTITIES[term]
    words = {
        "": q.meaning,
        "Formula": q.formula,
        "Chance": q.chance,
        "Mind": q.pitfall,
        "From": q.source,
    }
    lines = [
        f"{f'{label}: ' if label else ''}{html.escape(text)}"
        for label, text in words.items()
        if text
    ]
    return f"<dt>{html.escape(q.label)}</dt><dd>{'<br>'.join(lines)}</dd>"


def provenance(comparisons: Sequence[Stored], command: str, now: datetime) -> str:
    """What was compared, how, and by what: files by their fingerprints, never by their place."""
    rows = [
        {
            "comparison": facts.title,
            "key": facts.key,
            "base": facts.base.label,
            "base files": " ".join(facts.base.fingerprints),
            "tuned": facts.tuned.label,
            "tuned files": " ".join(facts.tuned.fingerprints),
            "settings": json.dumps(dict(facts.settings), sort_keys=True),
            "notes": " ".join(facts.notes),
        }
        for facts in (elsewhere(run.manifest) for run in comparisons)
    ]
    when = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<p>Made {when} by opdviz {__version__}: <code>{html.escape(command)}</code></p>"
        f"{table_html(pd.DataFrame(rows).T.reset_index())}"
    )
