"""What an update takes to send: bytes under each encoding, of one update or step by step."""

import pandas as pd
import plotly.graph_objects as go

from opdviz.figures import marks, theme
from opdviz.figures.runs import legend_below
from opdviz.words import percent, size

HEIGHT = 320
COLOURS = dict(
    zip(("mask_bytes", "index32_bytes", "gap16_bytes", "xor_zstd_bytes"), theme.RUNS, strict=False)
)


def by_step(
    rows: pd.DataFrame, words: dict[str, str], changed: dict[str, pd.DataFrame]
) -> go.Figure:
    """x: step, y: bytes under each encoding as a share of all that the checkpoint takes; grey: the
    share of coordinates that changed, a line for each name of `changed`.

    `words` names the columns of bytes. Other columns of all: step, moved, numel, full_bytes.
    """
    traces = [
        marks.line(
            rows["step"],
            rows[column] / rows["full_bytes"],
            encoding,
            colour=COLOURS[column],
            mode="lines+markers",
            customdata=[[size(value)] for value in rows[column]],
            hover=f"step %{{x}}: %{{customdata[0]}}, %{{y:.1%}} of the checkpoint<extra>{encoding}"
            "</extra>",
        )
        for column, encoding in words.items()
    ]
    traces += [
        marks.line(
            moved["step"],
            moved["moved"] / moved["numel"],
            name,
            colour=theme.BASE,
            dash=dash,
            mode="lines+markers",
            hover=f"step %{{x}}: %{{y:.2%}} of the coordinates {name}",
        )
        for (name, moved), dash in zip(changed.items(), ("dot", "dash"), strict=True)
    ]
    figure = theme.figure(
        *traces,
        alt="Bytes of an update under four encodings, as shares of the checkpoint, by step.",
        **legend_below(len(traces), HEIGHT),
    )
    figure.update_xaxes(title="step")
    return figure.update_yaxes(
        title="share of the checkpoint", tickformat=".0%", rangemode="tozero"
    )


def of_one(row: pd.Series, words: dict[str, str]) -> go.Figure:
    """A bar an encoding of one update: its bytes as a share of all that the checkpoint takes."""
    shares = [row[column] / row["full_bytes"] for column in words]
    figure = theme.figure(
        marks.bars(
            list(words.values()),
            shares,
            "bytes",
            colour=theme.DELTA,
            text=[
                f"{size(row[column])}, {percent(share, 2)}"
                for column, share in zip(words, shares, strict=True)
            ],
            hover="%{x}: %{y:.2%} of the checkpoint",
        ),
        height=300,
        alt="Bytes of the update under four encodings, as shares of the checkpoint.",
        margin={"t": 20},
        showlegend=False,
    )
    top = 1.15 * max([1.0, *shares])
    figure.add_hline(y=1.0, line={"color": theme.CHANCE, "width": 1, "dash": "dot"})
    return figure.update_yaxes(title="share of the checkpoint", tickformat=".0%", range=[0, top])
