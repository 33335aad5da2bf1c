"""Pairs are made by name: exact, then without prefixes where that is one to one; everything else is
listed.
"""

import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from opdviz import checkpoint, naming, pairing
from opdviz.errors import RequestError
from opdviz.naming import core
from tests.conftest import write_checkpoint


def matched(tmp_path, base, tuned, config=None, **options):
    sides = [
        write_checkpoint(tmp_path / side, tensors)
        for side, tensors in (("base", base), ("tuned", tuned))
    ]
    if config:
        for side in sides:
            (side / "config.json").write_text(json.dumps(config))
    return pairing.match(*(checkpoint.open(side) for side in sides), **options)


def test_prefixes_are_dropped_where_that_is_one_to_one(tmp_path):
    x = np.zeros((3, 2))
    found = matched(
        tmp_path,
        {
            "model.layers.0.mlp.up_proj.weight": x,
            "model.norm.weight": np.ones(2),
            "bert.a.weight": x,
        },
        {
            "module._orig_mod.model.language_model.layers.0.mlp.up_proj.weight": x,
            "norm.weight": np.ones(2),
            "a.weight": x,
        },
    )
    assert {p.name: p.tuned_name for p in found.pairs} == {
        "model.layers.0.mlp.up_proj.weight": (
            "module._orig_mod.model.language_model.layers.0.mlp.up_proj.weight"
        ),
        "model.norm.weight": "norm.weight",
        "bert.a.weight": "a.weight",
    }
    assert {row["rule"] for row in found.rewrites} == {"prefix"}
    assert not found.unmatched


def test_an_ambiguous_prefix_is_listed_and_not_guessed(tmp_path):
    x = np.zeros(3)
    found = matched(tmp_path, {"a.w": x, "same": x}, {"model.a.w": x, "bert.a.w": x, "same": x})
    assert [p.name for p in found.pairs] == ["same"]
    assert {row["name"] for row in found.unmatched} == {"a.w", "model.a.w", "bert.a.w"}


def test_shapes_that_differ_are_listed_with_both(tmp_path):
    found = matched(
        tmp_path,
        {"w": np.zeros((3, 2)), "x": np.zeros(1)},
        {"w": np.zeros((4, 2)), "x": np.zeros(1)},
    )
    assert [(r["side"], r["reason"]) for r in found.unmatched] == [
        ("base", "shapes differ: base 3x2, tuned 4x2"),
        ("tuned", "shapes differ: base 3x2, tuned 4x2"),
    ]


def test_nothing_in_common_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no tensor in common"):
        matched(tmp_path, {"a": np.zeros(1)}, {"b": np.zeros(1)})
    with pytest.raises(RequestError, match="the base has a in shape 3x2, the tuned a in shape 4x2"):
        matched(tmp_path / "shapes", {"a": np.zeros((3, 2))}, {"a": np.zeros((4, 2))})


def test_a_tied_head_counts_once(tmp_path):
    both = {"model.embed_tokens.weight": np.zeros((4, 2)), "lm_head.weight": np.zeros((4, 2))}
    found = matched(tmp_path, both, both, {"tie_word_embeddings": True})
    assert [p.name for p in found.pairs] == ["model.embed_tokens.weight"]
    assert found.parameters == 8
    assert {row["rule"] for row in found.rewrites} == {"tie"}
    assert len(matched(tmp_path / "untied", both, both).pairs) == 2


@pytest.mark.parametrize("repeats", [True, False])
def test_a_head_that_one_side_leaves_out_counts_once_where_it_repeats_the_embedding(
    tmp_path, repeats
):
    embedding = np.arange(8.0).reshape(4, 2)
    head = embedding if repeats else embedding + 1
    both = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    matching = matched(tmp_path, both, {"model.embed_tokens.weight": embedding}, look=True)
    assert [p.name for p in matching.pairs] == ["model.embed_tokens.weight"]
    if repeats:
        assert [row["name"] for row in matching.rewrites] == ["lm_head.weight"]
        assert matching.rewrites[0]["rule"] == "tie" and not matching.unmatched
    else:
        assert [row["reason"] for row in matching.unmatched] == ["only in base"]


def test_a_stack_of_experts_is_a_stack_of_matrices_and_a_convolution_is_flat(tmp_path):
    tensors = {
        "model.layers.0.mlp.experts.gate_up_proj": np.arange(24.0).reshape(3, 4, 2),
        "visual.patch_embed.proj.weight": np.arange(24.0).reshape(2, 3, 2, 2),
    }
    found = matched(tmp_path, tensors, tensors)
    assert found.tensors == 2
    assert [(p.name.split(".")[-1], p.shape, p.kind, p.place.expert) for p in found.pairs] == [
        ("gate_up_proj[0]", (4, 2), "stack", 0),
        ("gate_up_proj[1]", (4, 2), "stack", 1),
        ("gate_up_proj[2]", (4, 2), "stack", 2),
        ("weight", (2, 12), "convolution", None),
    ]
    np.testing.assert_array_equal(found.pairs[1].base, np.arange(8.0, 16.0).reshape(4, 2))


def test_float8_without_a_scale_is_left_over_and_scales_are_no_tensors(tmp_path):
    codes = torch.ones(4, 4).to(torch.float8_e4m3fn)
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        tensors = {
            "a": codes,
            "a_scale": torch.tensor(2.0),
            "b": codes.clone(),
            "c": torch.zeros(2),
        }
        save_file(tensors, tmp_path / side / "model.safetensors")
    found = pairing.match(checkpoint.open(tmp_path / "base"), checkpoint.open(tmp_path / "tuned"))
    assert sorted(p.name for p in found.pairs) == ["a", "c"]
    assert {(r["side"], r["name"]) for r in found.unmatched} == {("base", "b"), ("tuned", "b")}


HEADS = {"hidden_size": 16, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "size", "counts"),
    [
        (HEADS, 4, {"query": 4, "key_value": 4, "size": 4}),
        ({"text_config": HEADS}, 4, {"query": 4, "key_value": 4, "size": 4}),
        (HEADS | {"text_config": None}, 4, {"query": 4, "key_value": 4, "size": 4}),
        (HEADS | {"text_config": [1]}, 4, {"query": 4, "key_value": 4, "size": 4}),
        (HEADS | {"head_dim": 8}, 8, {"query": 4, "key_value": 4, "size": 8}),
        (HEADS | {"head_dim": -8}, 4, {"query": 4, "key_value": 4, "size": 4}),
        (HEADS | {"head_dim": True}, 4, {"query": 4, "key_value": 4, "size": 4}),
        (HEADS | {"num_key_value_heads": 0}, 4, {}),
        (HEADS | {"num_key_value_heads": -1}, 4, {}),
        (HEADS | {"num_key_value_heads": 10**30}, 4, {}),
        ({"hidden_size": 16, "num_attention_heads": -4}, None, {}),
        ({"hidden_size": 16, "num_attention_heads": "4"}, None, {}),
        ({"hidden_size": 16, "num_attention_heads": True}, None, {}),
        ({"hidden_size": 16, "num_attention_heads": 64}, None, {}),
        ({"hidden_size": 10**30, "num_attention_heads": 4}, None, {}),
        ({"hidden_size": 10**7, "num_attention_heads": 10**6}, None, {}),
        ({"hidden_size": float("inf"), "num_attention_heads": 4}, None, {}),
        ({}, None, {}),
    ],
)
def test_heads_are_positive_bounded_counts_or_unknown(config, size, counts):
    assert naming.head_size(config) == size
    assert naming.head_counts(config) == counts


def test_more_pairs_than_can_be_held_are_refused(tmp_path, monkeypatch):
    tensors = {"experts.w": np.zeros((5, 2, 2)), "a": np.zeros(2)}
    monkeypatch.setattr(pairing, "MOST_PAIRS", 6)
    assert len(matched(tmp_path / "fits", tensors, tensors).pairs) == 6
    monkeypatch.setattr(pairing, "MOST_PAIRS", 5)
    with pytest.raises(RequestError, match="found more than 5 pairs with the 5 of experts.w"):
        matched(tmp_path / "not", tensors, tensors)


def test_thousands_of_output_heads_are_not_each_held_against_all_tensors(tmp_path):
    tensors = {f"part{i}.lm_head.weight": np.zeros((2, 2)) for i in range(5000)}
    began = time.process_time()
    found = matched(tmp_path, tensors, tensors, {"tie_word_embeddings": True})
    assert len(found.pairs) == 5000
    assert time.process_time() - began < 5


def test_experts_of_nothing_are_one_tensor(tmp_path):
    tensors = {"experts.w": np.zeros((1000, 0, 4)), "a": np.zeros(2)}
    assert [p.name for p in matched(tmp_path, tensors, tensors).pairs] == ["a", "experts.w"]


def test_a_scale_that_does_not_fit_leaves_its_codes_over_and_stays_a_tensor(tmp_path):
    for side in ("base", "tuned"):
        (tmp_path / side).mkdir()
        tensors = {"a": torch.ones(4, 4).to(torch.float8_e4m3fn), "a_scale": torch.ones(4, 4, 2)}
        save_file(tensors, tmp_path / side / "model.safetensors")
    found = pairing.match(checkpoint.open(tmp_path / "base"), checkpoint.open(tmp_path / "tuned"))
    assert [p.name for p in found.pairs] == ["a_scale"]
    assert {r["reason"] for r in found.unmatched} == {
        "float8 whose scale tensor 4x4x2 does not fit: its codes say nothing"
    }


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from(["module", "_orig_mod", "model", "bert", "language_model"]), max_size=4
    )
)
def test_a_core_does_not_depend_on_its_prefixes(prefixes):
    assert (
        core(".".join([*prefixes, "layers.0.mlp.up_proj.weight"])) == "layers.0.mlp.up_proj.weight"
    )


def tied(folder, *, noise: float, says: bool = True):
    """A model whose configuration calls its head tied, with a head that differs by some noise."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 8)).astype(np.float32)
    head = rows + noise * rng.standard_normal(rows.shape)
    write_checkpoint(
        folder,
        {"model.embed_tokens.weight": rows, "lm_head.weight": head, "model.norm.weight": rows[0]},
    )
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": says}))
    return checkpoint.open(folder)


def test_a_head_that_repeats_the_embedding_is_counted_once(tmp_path):
    matching = pairing.match(
        tied(tmp_path / "a", noise=0), tied(tmp_path / "b", noise=0), look=True
    )
    assert [p.name for p in matching.pairs] == ["model.embed_tokens.weight", "model.norm.weight"]
    assert {row["rule"] for row in matching.rewrites} == {"tie"}
    assert not matching.contradictions


def test_a_head_that_is_called_tied_and_is_not_is_counted_and_said(tmp_path):
    base, tuned = tied(tmp_path / "a", noise=0), tied(tmp_path / "b", noise=0.01)
    matching = pairing.match(base, tuned, look=True)
    assert [p.name for p in matching.pairs] == [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.norm.weight",
    ]
    assert not matching.rewrites
    (note,) = matching.contradictions
    assert note.startswith(
        "The tuned's configuration calls lm_head.weight tied to model.embed_tokens.weight, but"
    )
    assert len(pairing.match(base, tuned).pairs) == 2, "headers alone cannot tell"
