"""Names as transformers saves them, of tiny models of many architectures: each has its place."""

import re

import numpy as np
import pytest

from opdviz import checkpoint, pairing
from opdviz.naming import parse
from tests.architectures import COMPOSED, PLAIN, SPECIAL, names_of, saved

KINDS = (*PLAIN, *SPECIAL, *COMPOSED)
STATE = ("mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "falcon_h1", "qwen3_next")
SEEING = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "paligemma", "gemma3", "internvl")
# Words that stand in one block, whatever the architecture.
ALWAYS = {
    "mixer": re.compile(r"\.(A_log|D|dt_bias|dt_proj|x_proj|conv1d|in_proj_qkvz)(\.|$)"),
    "attention": re.compile(r"\.(q_proj|k_proj|v_proj|qkv_proj|query_key_value|Wqkv)\.weight$"),
    "ffn": re.compile(r"\.(gate_proj|up_proj|down_proj|gate_up_proj|fc1)(\.weight)?$"),
    "router": re.compile(r"\.(router|shared_expert_gate)(\.|$)"),
    "norm": re.compile(r"norm\d?\.weight$"),
    "embedding": re.compile(r"(embed_tokens|wte|word_embeddings)\.weight$"),
}


def test_there_are_many():
    assert len(KINDS) > 80


@pytest.mark.parametrize("kind", KINDS)
def test_no_tensor_of_an_architecture_is_without_a_place(kind):
    places = {name: parse(name) for name in names_of(kind)}
    assert len(places) > 5
    assert [name for name, place in places.items() if place.block == "other"] == []
    for block, words in ALWAYS.items():
        wrong = {
            name: place.block
            for name, place in places.items()
            if words.search(name) and place.block not in (block, "head", "projector", "norm")
        }
        assert not wrong, (block, wrong)
    blocks = {place.block for place in places.values()}
    if kind in STATE:
        assert "mixer" in blocks
    if kind in SEEING:
        assert "projector" in blocks and "visual" in {place.tower for place in places.values()}


# What files call otherwise than memory does: prefixes of transformers 4, experts a tensor each.
RENAMED = (
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next", "paligemma", "gemma3"),
    *("internvl", "mistral3", "idefics3", "mixtral", "qwen3_moe", "olmoe", "deepseek_v3"),
    *("qwen3_next", "gpt_oss", "granitemoe", "glm4_moe", "minimax", "phimoe", "jamba"),
)


@pytest.mark.parametrize("kind", RENAMED)
def test_names_in_memory_pair_with_those_in_files(tmp_path, kind):
    saved(kind, tmp_path / "files", tmp_path / "memory")
    sides = [checkpoint.open(tmp_path / side) for side in ("files", "memory")]
    matching = pairing.match(*sides, look=True)
    assert matching.unmatched == []
    assert len(matching.pairs) >= len(sides[0].tensors) - 1  # a tied head counts once
    for pair in matching.pairs:
        assert np.array_equal(pair.base, pair.tuned), pair


def test_a_policy_has_its_towers():
    start = "model.paligemma_with_expert"
    towers = {
        f"{start}.paligemma.model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight": "visual",
        f"{start}.paligemma.model.language_model.layers.0.self_attn.q_proj.weight": "language",
        f"{start}.gemma_expert.model.layers.0.mlp.down_proj.weight": "action",
        "model.vlm_with_expert.lm_expert.layers.0.self_attn.k_proj.weight": "action",
        "model.action_time_mlp_in.weight": "action",
        "model.state_proj.weight": "action",
    }
    assert {name: parse(name).tower for name in towers} == towers
    assert parse("model.action_out_proj.weight").block == "head"
    assert parse("model.state_proj.weight").block == "projector"
