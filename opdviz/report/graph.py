"""A value by tensor as node data for Model Explorer, which colours a graph of the model by it.

Format: `GraphNodeData` of google-ai-edge/model-explorer, node_data_builder.py.
"""

import json
import re

import pandas as pd

from opdviz.figures import theme

STOPS = (0.0, 0.25, 0.5, 0.75, 1.0)


def nodes(values: pd.Series) -> bytes:
    """Values by tensors' names (the series has one of its own) as one JSON value; without the
    tensors that have none.
    """
    measured = values.dropna().astype(float)
    results = {}
    for name, value in measured.items():
        results[name] = results[exported(name)] = {"value": value}
    data = {"name": str(values.name), "results": results, "gradient": gradient()}
    return (json.dumps(data, allow_nan=False, indent=1) + "\n").encode()


def exported(name: str) -> str:
    """What `torch.export` calls a parameter's node; other graphs have it by its own name.

    >>> exported("model.layers.0.mlp.up_proj.weight")
    'p_model_layers_0_mlp_up_proj_weight'
    """
    return "p_" + re.sub(r"[^a-zA-Z0-9]", "_", name).lower()


def gradient() -> list[dict]:
    """The colours of a map, from its least to its largest value, with ink that is read on each."""
    colours = theme.MAGNITUDES
    return [
        {
            "stop": stop,
            "bgColor": theme.colour_at(colours, stop),
            "textColor": theme.ink_on(colours, stop),
        }
        for stop in STOPS
    ]
