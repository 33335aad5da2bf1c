"""What comparing models of 8, 70 and 671 billion parameters would take, from headers and measured
rates: `python -m tests.bench.scale [CORES]`.

Headers in the shapes of Llama-3.1-8B and -70B and of DeepSeek-V3 (their public configurations)
stand in files without data; `opdviz check` reads those as it reads any. Beside its estimate one
matrix of 4096 x 4096 is measured: larger ones nobody has fitted.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from opdviz.engine.estimate import cost  # noqa: E402
from opdviz.engine.measuring import work_on  # noqa: E402
from opdviz.measures import MEASURES  # noqa: E402
from tests.bench.engine import drawn, pairs_of, seconds  # noqa: E402

Shapes = dict[str, tuple[int, ...]]


def dense(hidden: int, layers: int, inner: int, keys: int, vocabulary: int) -> Shapes:
    """The matrices of a Llama."""
    shapes: Shapes = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(layers):
        place = f"model.layers.{layer}."
        shapes |= {
            f"{place}self_attn.q_proj.weight": (hidden, hidden),
            f"{place}self_attn.k_proj.weight": (keys, hidden),
            f"{place}self_attn.v_proj.weight": (keys, hidden),
            f"{place}self_attn.o_proj.weight": (hidden, hidden),
            f"{place}mlp.gate_proj.weight": (inner, hidden),
            f"{place}mlp.up_proj.weight": (inner, hidden),
            f"{place}mlp.down_proj.weight": (hidden, inner),
            f"{place}input_layernorm.weight": (hidden,),
            f"{place}post_attention_layernorm.weight": (hidden,),
        }
    return shapes


def experts(hidden: int = 7168, layers: int = 61, dense_layers: int = 3) -> Shapes:
    """The matrices of DeepSeek-V3."""
    shapes: Shapes = {
        "model.embed_tokens.weight": (129_280, hidden),
        "lm_head.weight": (129_280, hidden),
    }

    def feed_forward(place: str, inner: int) -> Shapes:
        return {
            f"{place}.gate_proj.weight": (inner, hidden),
            f"{place}.up_proj.weight": (inner, hidden),
            f"{place}.down_proj.weight": (hidden, inner),
        }

    for layer in range(layers):
        place = f"model.layers.{layer}."
        shapes |= {
            f"{place}self_attn.q_a_proj.weight": (1536, hidden),
            f"{place}self_attn.q_b_proj.weight": (24_576, 1536),
            f"{place}self_attn.kv_a_proj_with_mqa.weight": (576, hidden),
            f"{place}self_attn.kv_b_proj.weight": (32_768, 512),
            f"{place}self_attn.o_proj.weight": (hidden, 16_384),
        }
        if layer < dense_layers:
            shapes |= feed_forward(f"{place}mlp", 18_432)
            continue
        shapes |= {f"{place}mlp.gate.weight": (256, hidden)}
        shapes |= feed_forward(f"{place}mlp.shared_experts", 2048)
        for expert in range(256):
            shapes |= feed_forward(f"{place}mlp.experts.{expert}", 2048)
    return shapes


MODELS = {
    "8B": dense(4096, 32, 14_336, 1024, 128_256),
    "70B": dense(8192, 80, 28_672, 1024, 128_256),
    "671B": experts(),
}


def without_data(folder: Path, shapes: Shapes) -> None:
    """A safetensors file of bf16 tensors whose data are a hole."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def checked(shapes: Shapes, cores: int) -> dict:
    """What `opdviz check` says of two such checkpoints, and how long it takes to say it."""
    with tempfile.TemporaryDirectory() as name:
        sides = [Path(name) / side for side in ("base", "tuned")]
        for side in sides:
            without_data(side, shapes)
        command = [sys.executable, "-m", "opdviz", "check", *map(str, sides), "--json"]
        command += ["--workers", str(cores), "--cache", str(Path(name) / "cache")]
        start = time.perf_counter()
        facts = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        taken = time.perf_counter() - start
    # For the fingerprints, the first pass and the second.
    read = 3 * 2 * 2 * facts["parameters"]
    return {
        "parameters (billions)": round(facts["parameters"] / 1e9, 1),
        "tensors": facts["pairs"],
        "core hours": round(cores * facts["seconds"] / 3600, 1),
        f"hours on {cores} cores": round(facts["seconds"] / 3600, 2),
        f"first pass, minutes on {cores} cores": round(facts["first_pass_seconds"] / 60, 1),
        f"memory of {cores} workers (GB)": round(facts["bytes"] / 1e9),
        "bytes read (GB)": round(read / 1e9),
        "seconds of `check`": round(taken, 1),
    }


def beyond_the_fit() -> float:
    """A measured matrix of 4096 x 4096 over its estimate."""
    names = [module.NAME for module in MEASURES]
    with tempfile.TemporaryDirectory() as name:
        (pair,) = pairs_of(drawn(Path(name) / "large", {"model.q_proj.weight": (4096, 4096)}))
        return seconds(lambda: work_on(pair, names)) / cost(pair, MEASURES)


def main() -> None:
    """Print one JSON object."""
    cores = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    figures = {model: checked(shapes, cores) for model, shapes in MODELS.items()}
    figures["4096 x 4096, measured / estimate"] = round(beyond_the_fit(), 2)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
