"""A figure as a file: live as HTML, as Plotly's JSON, or for paper as PDF, SVG and PNG, which the
machine's Chromium draws.
"""

import contextlib
import threading
from collections.abc import Iterator

from opdviz.errors import MachineError, RequestError, one_line
from opdviz.figures import printed, theme
from opdviz.report import graph
from opdviz.tables import writing
from opdviz.views import View

PAPER, LIVE, DATA = ("pdf", "svg", "png"), ("html", "json"), ("csv", "parquet")
TABLES, NODES = ("tex", "md"), "nodes.json"
ENDINGS = (*PAPER, *LIVE, *DATA, *TABLES, NODES)
DPI = 300
PATIENCE = 60  # seconds
# Fonts of one width, one of which is on every machine: a PDF has it inside as TrueType. The page's
# own is a variable font, which Chromium puts into a PDF as Type 3; many venues refuse that.
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"
# The sheet is the figure: kaleido leaves a tenth of an inch around it, and cuts as much off.
SHEET = "<style>@page{margin:0}body{margin:0!important}img{display:block}</style>"
drawing = threading.Lock()  # one Chromium at a time: each takes some hundred megabytes


def saved(view: View, ending: str, *, width: str = "column", title: bool = True) -> bytes:
    """A view's figure or data as a file with one of ENDINGS.

    Raises
        RequestError: it is a picture, and no Chromium is on this machine; or what the view has not.
    """
    if ending in DATA:
        return writing.WRITERS[ending](view.data)
    if ending in TABLES:
        return writing.WRITERS[ending](expected(view, view.for_paper, "table for papers"))
    if ending == NODES:
        return graph.nodes(expected(view, view.nodes, "value by tensor"))
    if ending == "html":
        from opdviz.report import page  # pages of the app are drawn without it

        return page.one_figure(view).encode()
    if ending == "json":
        return theme.inked(view.figure, "light").to_json().encode()
    return picture(view.figure, ending, width=width, title=title)


def expected(view: View, part: object, what: str):
    """A part of a view, where it has it.

    Raises
        RequestError: it has not.
    """
    if part is None:
        raise RequestError(
            f"figure: found no {what} behind {one_line(view.title)!r}; expected one of"
            f" {', '.join((*PAPER, *LIVE, *DATA))}."
        )
    return part


def ending_of(name: str) -> str:
    """The ending of a file's name that says what to write.

    >>> ending_of("layers.pdf"), ending_of("layers.nodes.json")
    ('pdf', 'nodes.json')

    Raises
        RequestError: nobody writes it.
    """
    for ending in reversed(ENDINGS):
        if name.endswith(f".{ending}"):
            return ending
    last = one_line(name.rpartition(".")[2], limit=20)
    raise RequestError(
        f"figure {one_line(name, limit=60)}: found ending {last!r}; expected one of"
        f" {', '.join(ENDINGS)}."
    )


def picture(figure, ending: str, *, width: str, title: bool) -> bytes:
    """A figure as one of PAPER, in the layout of a width of `printed.WIDTHS`."""
    missing = why_not()
    if missing:
        raise RequestError(missing)
    import kaleido

    sheet = printed.printed(figure, width, title=title)
    sheet.update_layout(font_family=FONT, paper_bgcolor="white")
    size = {"width": sheet.layout.width, "height": sheet.layout.height}
    options = size | {"format": ending, "scale": DPI / 96 if ending == "png" else 1}
    around = kaleido.PageGenerator(mathjax=False)  # which it would fetch
    around.header += SHEET
    with drawing, failures():
        return kaleido.calc_fig_sync(
            sheet, options, kopts={"page_generator": around, "timeout": PATIENCE}
        )


def why_not() -> str:
    """Why no picture can be drawn on this machine; empty where one can."""
    try:
        from choreographer.browsers.chromium import Chromium
    except ImportError:
        return f"figure: found no kaleido; `pip install kaleido` draws pictures. {WITHOUT}"
    from os import environ

    if environ.get("BROWSER_PATH") or Chromium.find_browser(skip_local=False):
        return ""
    return (
        "figure: found no Chromium and no Chrome, which draw pictures; install one, or name it by"
        f" BROWSER_PATH. {WITHOUT}"
    )


WITHOUT = f"Without one there are: {', '.join((*LIVE, *DATA))}."


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """What a browser that does not start or answer raises, as one line.

    Raises
        MachineError: it did not.
    """
    from choreographer import errors
    from kaleido.errors import KaleidoError

    try:
        yield
    except (
        errors.BrowserFailedError,
        errors.BrowserClosedError,
        errors.ChromeNotFoundError,
        errors.ChannelClosedError,
        KaleidoError,
        OSError,
        TimeoutError,
    ) as error:
        raise MachineError(
            f"figure: Chromium did not draw it ({type(error).__name__}); try again, or name"
            f" another by BROWSER_PATH. {WITHOUT}"
        ) from None
