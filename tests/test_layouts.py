"""One model in unlike layouts, against its plain twin: the same tables, to the last bit."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from opdviz import checkpoint, pairing
from opdviz.errors import RequestError
from opdviz.naming import core
from opdviz.runs import apply, relations
from tests.conftest import measured

HEADS, SHARED, SIZE, HIDDEN, INNER, EXPERTS, WORDS = 4, 2, 8, 24, 20, 3, 50
Tensors = dict[str, torch.Tensor]


def plain(seed: int, shared: int = SHARED) -> Tensors:
    """A small decoder with two layers, one of them a mixture of experts; every tensor by itself."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        base = torch.randn(*shape, generator=torch.Generator().manual_seed(len(tensors)))
        return (base + 1e-2 * seed * torch.randn(*shape, generator=random)).to(torch.bfloat16)

    tensors: Tensors = {}
    tensors["model.embed_tokens.weight"] = draw(WORDS, HIDDEN)
    for layer in range(2):
        start = f"model.layers.{layer}"
        for word, heads in (("q", HEADS), ("k", shared), ("v", shared)):
            tensors[f"{start}.self_attn.{word}_proj.weight"] = draw(heads * SIZE, HIDDEN)
            tensors[f"{start}.self_attn.{word}_proj.bias"] = draw(heads * SIZE)
        tensors[f"{start}.self_attn.o_proj.weight"] = draw(HIDDEN, HEADS * SIZE)
        tensors[f"{start}.input_layernorm.weight"] = draw(HIDDEN)
    for word, shape in WORDS_OF_FFN.items():
        tensors[f"model.layers.0.mlp.{word}.weight"] = draw(*shape)
        for expert in range(EXPERTS):
            tensors[f"model.layers.1.mlp.experts.{expert}.{word}.weight"] = draw(*shape)
    tensors["lm_head.weight"] = draw(WORDS, HIDDEN)
    return tensors


WORDS_OF_FFN = {
    "gate_proj": (INNER, HIDDEN),
    "up_proj": (INNER, HIDDEN),
    "down_proj": (HIDDEN, INNER),
}


def take(tensors: Tensors, start: str, words: tuple[str, ...], end: str) -> list[torch.Tensor]:
    """Some tensors, taken out."""
    return [tensors.pop(f"{start}{word}{end}") for word in words]


def fused(tensors: Tensors, join: Callable[[list[torch.Tensor]], torch.Tensor], word: str) -> None:
    """Query, key and value in one tensor."""
    for layer in range(2):
        start = f"model.layers.{layer}.self_attn."
        for end in (".weight", ".bias"):
            parts = take(tensors, start, ("q_proj", "k_proj", "v_proj"), end)
            tensors[f"{start}{word}{end}"] = join(parts)


def by_head(parts: list[torch.Tensor]) -> torch.Tensor:
    """As GPT-NeoX and BLOOM keep them: the query, key and value of each head in turn."""
    cut = [part.reshape(HEADS, SIZE, *part.shape[1:]) for part in parts]
    return torch.stack(cut, 1).reshape(3 * HEADS * SIZE, *parts[0].shape[1:])


def by_group(parts: list[torch.Tensor]) -> torch.Tensor:
    """As InternLM2 and Falcon keep them: the queries that share a key, the key, the value."""
    cut = [part.reshape(SHARED, -1, *part.shape[1:]) for part in parts]
    return torch.cat(cut, 1).reshape(-1, *parts[0].shape[1:])


def gate_up(tensors: Tensors) -> None:
    """Gate and up in one tensor, as Phi-3 has them."""
    parts = take(tensors, "model.layers.0.mlp.", ("gate_proj", "up_proj"), ".weight")
    tensors["model.layers.0.mlp.gate_up_proj.weight"] = torch.cat(parts)


def stacked(tensors: Tensors, *, flip: bool = False, alternate: bool = False) -> None:
    """Experts in one tensor, as transformers holds them; flipped as Llama 4 has them."""
    start = "model.layers.1.mlp.experts."
    gates, ups, downs = (
        torch.stack([tensors.pop(f"{start}{e}.{word}.weight") for e in range(EXPERTS)])
        for word in WORDS_OF_FFN
    )
    joined = torch.cat([gates, ups], 1)
    if alternate:
        joined = torch.stack([gates, ups], 2).reshape(EXPERTS, 2 * INNER, HIDDEN)
    for word, whole in (("gate_up_proj", joined), ("down_proj", downs)):
        tensors[f"{start}{word}"] = whole.mT.contiguous() if flip else whole


def renamed(tensors: Tensors, *pairs: tuple[str, str]) -> None:
    """Other names for the same tensors."""
    for name in list(tensors):
        other = name
        for old, new in pairs:
            other = other.replace(old, new)
        tensors[other] = tensors.pop(name)


MIXTRAL = (
    (".mlp.experts", ".block_sparse_moe.experts"),
    (".gate_proj", ".w1"),
    (".up_proj", ".w3"),
    (".down_proj", ".w2"),
)


def mixtral(tensors: Tensors) -> None:
    """Experts by Mixtral's names."""
    experts = {name: tensors.pop(name) for name in list(tensors) if ".experts." in name}
    renamed(experts, *MIXTRAL)
    tensors |= experts


# A layout: what is done to the plain tensors, its configuration, heads of key and value.
LAYOUTS: dict[str, tuple[Callable[[Tensors], None], dict, int]] = {
    "plain": (lambda t: None, {}, SHARED),
    "qkv of Phi-3": (lambda t: (fused(t, torch.cat, "qkv_proj"), gate_up(t)), {}, SHARED),
    "qkv of GPT-NeoX": (
        lambda t: fused(t, by_head, "query_key_value"),
        {"model_type": "gpt_neox", "num_attention_heads": HEADS},
        HEADS,
    ),
    "qkv of BLOOM": (
        lambda t: fused(t, by_head, "query_key_value"),
        {"model_type": "bloom", "n_head": HEADS},
        HEADS,
    ),
    "qkv of Falcon": (
        lambda t: fused(t, by_group, "query_key_value"),
        {
            "model_type": "falcon",
            "new_decoder_architecture": True,
            "num_attention_heads": HEADS,
            "num_kv_heads": SHARED,
        },
        SHARED,
    ),
    "qkv of InternLM2": (
        lambda t: fused(t, by_group, "wqkv"),
        {
            "model_type": "internlm2",
            "num_attention_heads": HEADS,
            "num_key_value_heads": SHARED,
        },
        SHARED,
    ),
    "qkv of ChatGLM": (
        lambda t: fused(t, torch.cat, "query_key_value"),
        {"model_type": "chatglm"},
        SHARED,
    ),
    "experts stacked": (stacked, {}, SHARED),
    "experts stacked and flipped": (lambda t: stacked(t, flip=True), {}, SHARED),
    "experts of gpt-oss": (
        lambda t: stacked(t, flip=True, alternate=True),
        {"model_type": "gpt_oss"},
        SHARED,
    ),
    "experts of Mixtral": (mixtral, {}, SHARED),
    "wrapped": (
        lambda t: renamed(t, ("model.layers", "model.language_model.layers")),
        {},
        SHARED,
    ),
}


def write(folder: Path, tensors: Tensors, config: dict) -> Path:
    """A checkpoint of some tensors with its configuration."""
    folder.mkdir(parents=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def written(folder: Path, layout: str, seed: int, shared: int) -> Path:
    """The small model in a layout."""
    change, config, _ = LAYOUTS[layout]
    tensors = plain(seed, shared)
    change(tensors)
    return write(folder, tensors, config)


def values_of(matching: pairing.Matching) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Both sides of every pair, by the tuned's name without prefixes."""
    return {core(pair.tuned_name): (pair.base, pair.tuned) for pair in matching.pairs}


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_a_layout_on_one_side_gives_the_values_of_the_plain_twin(tmp_path, layout, side):
    shared = LAYOUTS[layout][2]
    paths = {}
    for label, seed in (("base", 0), ("tuned", 1)):
        paths[label] = written(tmp_path / label, "plain", seed, shared)
    truth = pairing.match(*map(checkpoint.open, paths.values()))
    paths[side] = written(tmp_path / "laid out", layout, ["base", "tuned"].index(side), shared)
    matching = pairing.match(*map(checkpoint.open, paths.values()))
    assert not matching.unmatched
    assert len(matching.pairs) == len(truth.pairs)
    expected = {name: values for name, values in values_of(truth).items()}
    for pair in matching.pairs:
        name = next(name for name in (pair.name, pair.tuned_name) if core(name) in expected)
        base, tuned = expected[core(name)]
        np.testing.assert_array_equal(pair.base, base)
        np.testing.assert_array_equal(pair.tuned, tuned)
        for read, whole in zip(pair.sixteen_bits, (base, tuned), strict=True):
            np.testing.assert_array_equal(np.asarray(read), whole)
    if layout != "plain":
        assert matching.rewrites and all(row["rule"] and row["detail"] for row in matching.rewrites)


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_any_rows_of_a_piece_are_those_of_the_whole(tmp_path, layout):
    shared = LAYOUTS[layout][2]
    paths = [
        written(tmp_path / "base", "plain", 0, shared),
        written(tmp_path / "t", layout, 1, shared),
    ]
    tuned = pairing.match(*map(checkpoint.open, paths)).tuned
    for name in tuned.tensors:
        whole, (codes, _) = tuned.read(name), tuned.read_raw(name)
        for first in range(0, len(whole), 3):
            for last in (first, first + 1, len(whole) - first % 2, len(whole)):
                if first <= last:
                    rows = whole[first:last]
                    np.testing.assert_array_equal(tuned.read(name, first, last), rows)
                    raw, _ = tuned.read_raw(name, first, last)
                    np.testing.assert_array_equal(raw, codes[first:last])


def tables_of(base: Path, tuned: Path) -> dict[str, pd.DataFrame]:
    """Every table, with names as the plain twin has them, in one order."""
    tables = {}
    for table, rows in measured(base, tuned).items():
        if "name" in rows:
            rows = rows.assign(name=[core(name) for name in rows["name"]])
            rows = rows.sort_values([c for c in rows if rows[c].dtype != float]).reset_index(
                drop=True
            )
        tables[table] = rows
    return tables


@pytest.mark.parametrize("layout", ["qkv of Phi-3", "qkv of Falcon", "experts stacked and flipped"])
def test_tables_of_a_layout_are_those_of_the_plain_twin(tmp_path, layout):
    base, tuned = (written(tmp_path / str(seed), "plain", seed, SHARED) for seed in (0, 1))
    twin = tables_of(base, tuned)
    for table, rows in tables_of(base, written(tmp_path / "other", layout, 1, SHARED)).items():
        pd.testing.assert_frame_equal(rows, twin[table], check_exact=True, obj=table)


@pytest.mark.parametrize(
    "config, words",
    [
        ({}, "nothing says which rows are whose"),
        ({"model_type": "gpt_neox"}, "nothing says which rows are whose"),
        (
            {"model_type": "gpt_neox", "num_attention_heads": -4},
            "nothing says which rows are whose",
        ),
        ({"model_type": "gpt_neox", "num_attention_heads": 5}, "only in tuned"),
    ],
)
def test_rows_whose_order_nothing_says_are_listed_and_not_guessed(tmp_path, config, words):
    base = written(tmp_path / "base", "plain", 0, HEADS)
    tensors = plain(1, HEADS)
    fused(tensors, by_head, "query_key_value")
    tuned = write(tmp_path / "tuned", tensors, config)
    matching = pairing.match(checkpoint.open(base), checkpoint.open(tuned))
    reasons = {row["name"]: row["reason"] for row in matching.unmatched}
    assert words in reasons["model.layers.0.self_attn.query_key_value.weight"]
    assert "model.layers.0.self_attn.q_proj.weight" in reasons
    assert any(pair.name == "lm_head.weight" for pair in matching.pairs)


def test_a_stack_of_squares_is_cut_as_the_other_stack_of_its_model(tmp_path):
    def squares(tensors: Tensors) -> Tensors:
        """Experts whose inner width is the hidden one: their down projections are squares."""
        random = torch.Generator().manual_seed(len(tensors))
        for name in tensors:
            if ".experts." in name:
                tensors[name] = torch.randn(HIDDEN, HIDDEN, generator=random)
        return tensors

    base, tensors = squares(plain(0)), squares(plain(1))
    start = "model.layers.1.mlp.experts."
    truth = tensors[f"{start}2.down_proj.weight"].numpy()
    for words, word in ((("gate_proj", "up_proj"), "gate_up_proj"), (("down_proj",), "down_proj")):
        parts = [
            torch.cat([tensors.pop(f"{start}{e}.{one}.weight") for one in words])
            for e in range(EXPERTS)
        ]
        tensors[f"{start}{word}"] = torch.stack(parts).mT.contiguous()
    paths = (write(tmp_path / "base", base, {}), write(tmp_path / "tuned", tensors, {}))
    pairs = {p.name: p for p in pairing.match(*map(checkpoint.open, paths)).pairs}
    np.testing.assert_array_equal(pairs[f"{start}2.down_proj.weight"].tuned, truth)
    # By itself nothing says which way it lies.
    tensors.pop(f"{start}gate_up_proj")
    alone = write(tmp_path / "alone", tensors, {})
    matching = pairing.match(checkpoint.open(paths[0]), checkpoint.open(alone))
    reasons = [row["reason"] for row in matching.unmatched if row["side"] == "tuned"]
    assert reasons == [
        "could be split as the other side is, but nothing says inputs or outputs first"
    ]


@pytest.mark.parametrize("longer", ["base", "tuned"])
def test_of_a_resized_vocabulary_common_rows_are_compared_and_the_rest_is_listed(tmp_path, longer):
    sides = {"base": plain(0), "tuned": plain(1)}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        more = torch.randn(6, HIDDEN).to(torch.bfloat16)
        sides[longer][name] = torch.cat([sides[longer][name], more])
    paths = {label: write(tmp_path / label, tensors, {}) for label, tensors in sides.items()}
    matching = pairing.match(*map(checkpoint.open, paths.values()))
    pairs = {pair.name: pair for pair in matching.pairs}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        for label, values in (("base", pairs[name].base), ("tuned", pairs[name].tuned)):
            np.testing.assert_array_equal(values, sides[label][name][:WORDS].float().numpy())
    assert [(row["side"], row["reason"]) for row in matching.unmatched] == [
        (longer, f"rows 50 to 55 only in {longer}")
    ] * 2
    assert {row["rule"] for row in matching.rewrites} == {"rows"}


def test_stacks_that_lie_either_way_are_turned(tmp_path):
    sides = [plain(0), plain(1)]
    stacked(sides[0])
    stacked(sides[1], flip=True)
    paths = [write(tmp_path / str(at), tensors, {}) for at, tensors in enumerate(sides)]
    matching = pairing.match(*map(checkpoint.open, paths))
    assert not matching.unmatched
    assert {row["rule"] for row in matching.rewrites} == {"transpose"}
    truth = plain(1)
    for pair in matching.pairs:
        if pair.stored_name(pair.name).endswith("experts.down_proj"):
            name = f"model.layers.1.mlp.experts.{pair.expert}.down_proj.weight"
            np.testing.assert_array_equal(pair.tuned, truth[name].float().numpy())


def test_a_stack_of_more_experts_than_the_other_side_has_is_left_over(tmp_path):
    sides = [plain(0), plain(1)]
    stacked(sides[1])
    for name in list(sides[0]):
        if ".experts.2." in name:
            del sides[0][name]
    paths = [write(tmp_path / str(at), tensors, {}) for at, tensors in enumerate(sides)]
    reasons = {
        r["name"]: r["reason"] for r in pairing.match(*map(checkpoint.open, paths)).unmatched
    }
    assert reasons["model.layers.1.mlp.experts.down_proj"] == "only in tuned"


def test_runs_in_unlike_layouts_are_related_over_what_they_share(tmp_path):
    """Of three runs on one base, one fused and one with another vocabulary."""
    paths = [written(tmp_path / str(seed), "plain", seed, SHARED) for seed in (0, 1)]
    paths.append(written(tmp_path / "fused", "qkv of Phi-3", 2, SHARED))
    tensors = plain(3)
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-4]
    paths.append(write(tmp_path / "shorter", tensors, {}))
    base, *tuned = map(checkpoint.open, paths)
    shared = {t.name: t for t in relations.shared([pairing.match(base, run) for run in tuned])}
    runs = {name: [run.run for run in tensor.tuned] for name, tensor in shared.items()}
    assert runs["model.layers.0.self_attn.q_proj.weight"] == [0, 1, 2]
    assert runs["lm_head.weight"] == [0, 1]
    tables = relations.of_tensor(shared["model.layers.0.self_attn.k_proj.weight"], ["a", "b", "c"])
    assert len({(row["run_a"], row["run_b"]) for row in tables["overlap"]}) == 3


def test_a_mixture_of_unlike_layouts_is_not_written(tmp_path):
    base, tuned = written(tmp_path / "base", "plain", 0, SHARED), tmp_path / "fused"
    written(tuned, "qkv of Phi-3", 1, SHARED)
    with pytest.raises(RequestError, match="laid out otherwise than on the other side"):
        apply.mixture(pairing.match(checkpoint.open(base), checkpoint.open(tuned)))


def test_what_is_fused_on_both_sides_stays_whole(tmp_path):
    """Of two towers with one word for it, one fused on one side alone."""
    sides = [plain(0), plain(1)]
    fused(sides[1], torch.cat, "qkv_proj")
    for at, tensors in enumerate(sides):
        whole = torch.full((3 * HIDDEN, HIDDEN), float(at)).to(torch.bfloat16)
        tensors["visual.blocks.0.self_attn.qkv_proj.weight"] = whole
    paths = [write(tmp_path / str(at), tensors, {}) for at, tensors in enumerate(sides)]
    matching = pairing.match(*map(checkpoint.open, paths))
    assert not matching.unmatched
    assert "visual.blocks.0.self_attn.qkv_proj.weight" in {pair.name for pair in matching.pairs}
    assert len(matching.rewrites) == 4
