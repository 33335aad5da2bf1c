"""Places are read off names: every supported family, and the traps of substrings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opdviz.naming import Place, parse

BLOCKS = {"attention", "mixer", "ffn", "router", "norm", "embedding", "projector", "head", "other"}
TOWERS = {"language", "visual", "encoder", "decoder", "action"}
KNOWN = [
    ("model.layers.3.self_attn.q_proj.weight", (3, "attention", "q_proj", "language", None)),
    ("model.layers.3.self_attn.q_proj.bias", (3, "attention", "q_proj.bias", "language", None)),
    ("model.layers.3.self_attn.q_norm.weight", (3, "norm", "q_norm", "language", None)),
    (
        "model.layers.0.pre_feedforward_layernorm.weight",
        (0, "norm", "pre_feedforward_layernorm", "language", None),
    ),
    ("model.norm.weight", (None, "norm", "norm", "language", None)),
    ("model.embed_tokens.weight", (None, "embedding", "embed_tokens", "language", None)),
    ("lm_head.weight", (None, "head", "lm_head", "language", None)),
    ("visual.blocks.3.attn.qkv.weight", (3, "attention", "qkv", "visual", None)),
    ("visual.blocks.3.norm1.weight", (3, "norm", "norm1", "visual", None)),
    ("visual.merger.mlp.0.weight", (None, "projector", "mlp.0", "visual", None)),
    ("model.visual.blocks.2.mlp.linear_fc1.weight", (2, "ffn", "linear_fc1", "visual", None)),
    (
        "model.language_model.layers.2.mlp.down_proj.weight",
        (2, "ffn", "down_proj", "language", None),
    ),
    (
        "model.layers.1.mlp.experts.7.down_proj.weight",
        (1, "ffn", "experts.down_proj", "language", 7),
    ),
    (
        "model.layers.1.mlp.experts.gate_up_proj[3]",
        (1, "ffn", "experts.gate_up_proj", "language", 3),
    ),
    ("model.layers.1.mlp.gate.weight", (1, "router", "mlp.gate", "language", None)),
    (
        "model.layers.1.mlp.gate.e_score_correction_bias",
        (1, "router", "e_score_correction_bias", "language", None),
    ),
    (
        "model.layers.1.mlp.shared_experts.gate_proj.weight",
        (1, "ffn", "shared_experts.gate_proj", "language", None),
    ),
    (
        "model.layers.0.block_sparse_moe.experts.3.w1.weight",
        (0, "ffn", "experts.w1", "language", 3),
    ),
    (
        "model.layers.0.block_sparse_moe.gate.weight",
        (0, "router", "block_sparse_moe.gate", "language", None),
    ),
    (
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
        (0, "attention", "kv_a_proj_with_mqa", "language", None),
    ),
    ("model.layers.0.self_attn.qkv_proj.weight", (0, "attention", "qkv_proj", "language", None)),
    ("model.layers.0.mlp.gate_up_proj.weight", (0, "ffn", "gate_up_proj", "language", None)),
    ("transformer.h.0.attn.c_attn.weight", (0, "attention", "c_attn", "language", None)),
    ("h.0.attn.c_proj.weight", (0, "attention", "attn.c_proj", "language", None)),
    ("h.0.mlp.c_proj.weight", (0, "ffn", "mlp.c_proj", "language", None)),
    ("h.0.ln_1.weight", (0, "norm", "ln_1", "language", None)),
    ("transformer.wte.weight", (None, "embedding", "wte", "language", None)),
    (
        "gpt_neox.layers.0.attention.query_key_value.weight",
        (0, "attention", "query_key_value", "language", None),
    ),
    ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", (0, "ffn", "dense_h_to_4h", "language", None)),
    ("embed_out.weight", (None, "head", "embed_out", "language", None)),
    (
        "bert.encoder.layer.0.attention.self.query.weight",
        (0, "attention", "attention.self.query", "language", None),
    ),
    (
        "encoder.layer.0.attention.output.dense.bias",
        (0, "attention", "attention.output.dense.bias", "language", None),
    ),
    (
        "encoder.layer.0.attention.output.LayerNorm.weight",
        (0, "norm", "attention.output.LayerNorm", "language", None),
    ),
    ("encoder.layer.0.output.dense.weight", (0, "ffn", "output.dense", "language", None)),
    ("embeddings.word_embeddings.weight", (None, "embedding", "word_embeddings", "language", None)),
    ("output.weight", (None, "head", "output", "language", None)),
    ("model.output.weight", (None, "head", "model.output", "language", None)),
    ("model.encoder.layers.3.self_attn.k_proj.weight", (3, "attention", "k_proj", "encoder", None)),
    ("model.decoder.layers.3.self_attn.k_proj.weight", (3, "attention", "k_proj", "decoder", None)),
    (
        "encoder.block.3.layer.0.SelfAttention.q.weight",
        (3, "attention", "layer.0.SelfAttention.q", "encoder", None),
    ),
    (
        "decoder.block.3.layer.2.DenseReluDense.wi_0.weight",
        (3, "ffn", "layer.2.DenseReluDense.wi_0", "decoder", None),
    ),
    ("shared.weight", (None, "embedding", "shared", "language", None)),
    (
        "vit.encoder.layer.0.attention.attention.query.weight",
        (0, "attention", "attention.attention.query", "visual", None),
    ),
    ("vit.embeddings.cls_token", (None, "embedding", "cls_token", "visual", None)),
    (
        "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight",
        (0, "ffn", "up_proj", "language", None),
    ),
    ("something.nobody.knows", (None, "other", "knows", "language", None)),
]


@pytest.mark.parametrize(("name", "place"), KNOWN, ids=[name for name, _ in KNOWN])
def test_a_known_name_has_its_place(name, place):
    assert parse(name) == Place(*place)


@given(st.text(min_size=0, max_size=60))
def test_any_text_has_some_place(name):
    place = parse(name)
    assert place.block in BLOCKS
    assert place.tower in TOWERS


def test_weight_and_bias_of_a_layer_never_share_a_cell():
    names = [
        f"encoder.layer.0.{m}.{p}"
        for m in ("output.dense", "attention.self.key")
        for p in ("weight", "bias")
    ]
    assert len({parse(name).module for name in names}) == 4


@pytest.mark.parametrize("number", ["²", "٣", "1234567", "7" * 6000, "+1", "1_0", ""])
def test_what_is_no_small_number_counts_no_layer_and_no_expert(number):
    layer, expert, slice_ = (
        parse(f"{name}")
        for name in (
            f"model.layers.{number}.w",
            f"layers.1.experts.{number}.w",
            f"layers.1.w[{number}]",
        )
    )
    assert (layer.layer, expert.expert, slice_.expert) == (None, None, None)
    assert (expert.layer, slice_.layer) == (1, 1)


def test_the_longest_number_is_a_layer():
    assert parse("layers.999999.experts.999999.w") == Place(
        999999, "ffn", "experts.w", "language", 999999
    )
