"""LoRA adapters, against what PEFT itself merges them to."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from opdviz import checkpoint, pairing
from opdviz.errors import RequestError
from opdviz.measures import intruders, magnitude, spectrum
from opdviz.measures.sides import work_of
from tests.conftest import measured

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS |= {"moe_intermediate_size": 48}
PARAMETERS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
TWO = {"r": 8, "target_modules": ["q_proj", "down_proj"]}
# Architecture, and what the adapter is.
KINDS = {
    "two modules": ("llama", TWO),
    "patterns, rsLoRA": (
        "llama",
        TWO
        | {"rank_pattern": {"down_proj": 4}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}}
        | {"use_rslora": True},
    ),
    "a regular expression": ("llama", TWO | {"alpha_pattern": {r".*\.1\..*_proj": 4}}),
    "DoRA": ("llama", TWO | {"use_dora": True}),
    "a module of its own": ("llama", TWO | {"modules_to_save": ["lm_head"]}),
    "embedding and head": ("llama", {"r": 4, "target_modules": ["embed_tokens", "lm_head"]}),
    "inputs by outputs": ("gpt2", {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "inputs by outputs, DoRA": (
        "gpt2",
        {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True},
    ),
    "experts, a tensor each": ("qwen3_moe", {"r": 4, "target_parameters": PARAMETERS}),
    "experts by other names": (
        "mixtral",
        {"r": 4, "target_parameters": PARAMETERS, "rank_pattern": {"experts.down_proj": 2}},
    ),
    "experts, stacked": ("gpt_oss", {"r": 4, "target_parameters": PARAMETERS}),
}


def model_of(kind: str, dtype: torch.dtype = torch.float32, **more) -> torch.nn.Module:
    """A tiny model of an architecture, with `more` in its configuration."""
    own = {"n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 128}
    own |= {"bos_token_id": 1, "eos_token_id": 2}
    sizes = own if kind == "gpt2" else SIZES | EXPERTS | {"tie_word_embeddings": False}
    torch.manual_seed(0)
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes | more)).to(dtype)


def trained(model: torch.nn.Module, scale: float = 0.05, **options) -> torch.nn.Module:
    """The model with an adapter whose factors are random."""
    from peft import LoraConfig, get_peft_model  # two seconds, which every worker would take

    options = {"lora_alpha": 16, "target_modules": []} | options
    with (
        warnings.catch_warnings()
    ):  # that PEFT asks transformers for what goes with its next version
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, LoraConfig(**options))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * scale)
    return adapted


def saved(folder: Path, kind: str, dtype: torch.dtype = torch.float32, **options):
    """Folders of the base, of an adapter, and of what PEFT merges them to."""
    base, tuned, twin = (folder / name for name in ("base", "adapter", "twin"))
    with warnings.catch_warnings():  # of PEFT: that it saves embeddings, too
        warnings.simplefilter("ignore")
        model = model_of(kind, dtype)
        model.save_pretrained(base)
        adapted = trained(model, **options)
        adapted.save_pretrained(tuned)
        adapted.merge_and_unload().save_pretrained(twin)
    return base, tuned, twin


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_on_its_base_is_what_peft_merges(tmp_path, kind):
    architecture, options = KINDS[kind]
    base, tuned, twin = saved(tmp_path, architecture, **options)
    matching = pairing.match(checkpoint.open(base), checkpoint.open(tuned))
    merged = checkpoint.open(twin)
    assert not matching.unmatched
    assert {pair.stored_name(pair.name) for pair in matching.pairs} == set(merged.tensors)
    moved = 0
    for name in merged.tensors:
        theirs = merged.read(name)
        ours = matching.tuned.read(name)
        # Both in float32, theirs summed in it.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-7)
        first, last = len(theirs) // 3, len(theirs) // 2 + 1
        np.testing.assert_array_equal(matching.tuned.read(name, first, last), ours[first:last])
        moved += not np.array_equal(ours, matching.base.read(name))
    for pair in matching.pairs:
        if (factors := pair.factors) is not None:
            product = factors[0] @ factors[1]
            np.testing.assert_allclose(pair.delta.reshape(product.shape), product, atol=2e-7)
    assert moved >= 2
    assert "adapter of rank" in " ".join(matching.tuned.notes)


def test_on_a_base_of_16_bits_the_sum_is_rounded_once(tmp_path):
    base, tuned, twin = saved(tmp_path, "llama", torch.bfloat16, **TWO)
    matching = pairing.match(checkpoint.open(base), checkpoint.open(tuned))
    pair = next(pair for pair in matching.pairs if pair.name.endswith("1.mlp.down_proj.weight"))
    left, right = pair.factors
    exact = torch.tensor(pair.base.astype(np.float64) + left @ right).to(torch.bfloat16)
    np.testing.assert_array_equal(pair.tuned, exact.float().numpy())
    raw, info = matching.tuned.read_raw(pair.name)
    np.testing.assert_array_equal(raw, exact.view(torch.uint16).numpy())
    assert info.dtype == "bfloat16"
    # PEFT rounds the product first: seldom another value, and then a step from it.
    theirs = checkpoint.open(twin).read(pair.name)
    assert np.mean(theirs != pair.tuned) < 1e-3


def test_spectrum_and_rank_are_those_of_the_factors(tmp_path):
    base, tuned, _ = saved(tmp_path, "llama", torch.bfloat16, **TWO)
    tables = measured(base, tuned, (magnitude, spectrum))
    name = "model.layers.0.mlp.down_proj.weight"
    pair = next(
        pair
        for pair in pairing.match(checkpoint.open(base), checkpoint.open(tuned)).pairs
        if pair.name == name
    )
    left, right = pair.factors
    truth = np.linalg.svd(left @ right, compute_uv=False)
    spectra = tables["spectrum"].query("name == @name and matrix == 'delta'")
    np.testing.assert_allclose(spectra["sigma"][:8], truth[:8], rtol=1e-12)
    assert not spectra["sigma"][8:].any()
    ranks = tables["rank"].query("name == @name and matrix == 'delta'")["rank"]
    assert set(ranks) == {8}
    summary = tables["spectrum_summary"].query("name == @name").set_index("matrix")
    assert summary.loc["delta", "method"] == "exact (QR of the adapter's factors)"
    assert summary.loc["base", "method"] == "exact"
    tuned_values = tables["spectrum"].query("name == @name and matrix == 'tuned'")["sigma"]
    whole = pair.base.astype(np.float64) + left @ right
    np.testing.assert_allclose(tuned_values, np.linalg.svd(whole, compute_uv=False), rtol=1e-10)


@pytest.mark.parametrize("target", ["q_proj", "down_proj", "up_proj"])
def test_everything_asked_of_directions_is_that_of_the_product(tmp_path, target):
    """A decomposition from factors against one of the sum in float64, which rounds nothing."""
    base, tuned, _ = saved(tmp_path, "llama", r=6, target_modules=[target])
    pairs = pairing.match(checkpoint.open(base), checkpoint.open(tuned)).pairs
    pair = next(pair for pair in pairs if target in pair.name)
    ours, left, right = work_of(pair), *pair.factors
    weights = pair.base.astype(np.float64)
    plain = type(ours).__bases__[0](weights, weights + left @ right, form="float64")
    np.testing.assert_allclose(ours.products.ad, plain.products.ad, atol=1e-12)
    np.testing.assert_allclose(ours.products.dd, plain.products.dd, atol=1e-12)
    np.testing.assert_allclose(ours.products.long_energy, plain.products.long_energy, atol=1e-12)
    for side in ("left", "right"):
        np.testing.assert_allclose(ours.sines(side, 6), plain.sines(side, 6), atol=1e-9)
    assert ours.delta_energy == pytest.approx(plain.delta_energy, rel=1e-10)


def test_intruders_are_as_many_as_peft_counts(tmp_path):
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    base, tuned, _ = saved(tmp_path, "llama", r=8, target_modules=["q_proj", "up_proj"], scale=0.1)
    lines: list[str] = []
    torch.manual_seed(0)
    adapted = trained(model_of("llama"), 0.1, r=8, target_modules=["q_proj", "up_proj"])
    reduce_intruder_dimension(adapted, "default", "mitigated", logging_sink=lines.append)
    theirs = {}
    for line in lines:
        if match := re.match(
            r"(?:base_model\.model\.)?(.+): (?:Intruders: (\d+)|No intruders)", line
        ):
            theirs[f"{match[1]}.weight"] = int(match[2] or 0)
    ours = measured(base, tuned, (magnitude, intruders))["intruder"].set_index("name")
    assert len(theirs) == 4 and any(theirs.values())
    assert {name: ours.loc[name, "intruders"] for name in theirs} == theirs


def damaged(change: Callable[[dict, dict], None]) -> Callable[[Path], None]:
    """A change of an adapter's configuration and tensors, applied to its folder."""

    def apply(folder: Path) -> None:
        settings = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
        change(settings, tensors)
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        save_file(tensors, folder / "adapter_model.safetensors")

    return apply


def first_named(tensors: dict, ending: str) -> str:
    """The first tensor whose name ends so."""
    return next(name for name in sorted(tensors) if name.endswith(ending))


MAGNITUDE = "lora_magnitude_vector"
BROKEN = {
    "another type": (lambda c, t: c.update(peft_type="IA3"), "adapter of type IA3; expected LORA"),
    "a base changed for it": (
        lambda c, t: c.update(init_lora_weights="pissa_niter_16"),
        "began as pissa_niter_16, with a base changed for it",
    ),
    "a gradient taken off the base": (
        lambda c, t: c.update(init_lora_weights="lora_ga"),
        "began as lora_ga, with a base changed for it",
    ),
    "half an update": (
        lambda c, t: t.pop(first_named(t, "lora_B.weight")),
        "half an update of model.layers.0.mlp.down_proj",
    ),
    "another rank": (lambda c, t: c.update(r=4), "rank 8 of model.layers.0.mlp.down_proj; expec"),
    "no alpha": (lambda c, t: c.update(lora_alpha="16"), "lora_alpha 16; expected a number"),
    "a pattern that takes for ever": (
        lambda c, t: c.update(alpha_pattern={"(a+)+b": 2}),
        "alpha_pattern (a+)+b; expected names of modules, or simple patterns",
    ),
    "patterns that are none": (
        lambda c, t: c.update(rank_pattern=[8]),
        "a list as rank_pattern; expected an object",
    ),
    "what nobody knows": (
        lambda c, t: t.update({"base_model.model.x.lora_C.weight": torch.ones(2)}),
        "found x.lora_C.weight; expected lora_A and lora_B alone",
    ),
    "a scalar": (
        lambda c, t: t.update({first_named(t, "lora_A.weight"): torch.tensor(1.0)}),
        "lora_A.weight as a scalar of float32; expected a matrix of floats",
    ),
    "codes": (
        lambda c, t: t.update({first_named(t, "lora_A.weight"): torch.ones(8, 96).to(torch.int8)}),
        "lora_A.weight as 8x96 of int8; expected a matrix of floats",
    ),
    "no rank at all": (
        lambda c, t: t.update({first_named(t, "lora_A.weight"): torch.ones(0, 96)}),
        "lora_A.weight as 0x96 of float32",
    ),
    "an update of a norm": (
        lambda c, t: t.update(
            {
                f"base_model.model.model.norm.lora_{factor}.weight": torch.ones(shape)
                for factor, shape in (("A", (8, 1)), ("B", (64, 8)))
            }
        ),
        "an update of 64x1 for model.norm.weight, which is 64",
    ),
    "other lengths": (
        lambda c, t: t.update(
            {first_named(t, "lora_A.weight").replace("lora_A.weight", MAGNITUDE): torch.ones(3)}
        ),
        "3 lengths of model.layers.0.mlp.down_proj; expected 64",
    ),
    "an alpha without end": (lambda c, t: c.update(lora_alpha=float("inf")), "lora_alpha inf"),
    "layers twice": (
        lambda c, t: c.update(layer_replication=[[0, 1]]),
        "an adapter with layer_replication",
    ),
    "a module that is not there": (
        lambda c, t: t.update({"base_model.model.nowhere.weight": torch.ones(2)}),
        "found nowhere.weight, which the base has not; expected the base that it was trained on",
    ),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """A base and an adapter."""
    return saved(tmp_path_factory.mktemp("pair"), "llama", **TWO)[:2]


@pytest.mark.parametrize("case", BROKEN)
def test_an_adapter_that_cannot_be_added_is_one_line(tmp_path, pair, case):
    change, words = BROKEN[case]
    base, tuned = pair
    copy = tmp_path / "adapter"
    copy.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (copy / file).write_bytes((tuned / file).read_bytes())
    damaged(change)(copy)
    with pytest.raises(RequestError) as refusal:
        pairing.match(checkpoint.open(base), checkpoint.open(copy))
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "found no adapter_config.json; expected one beside the adapter's weights"),
        ("circle", "found too many levels of symbolic links in adapter_config.json"),
        ("{", "found text that is not JSON in adapter_config.json"),
        ("[1]", "found an adapter of type None; expected LORA"),
    ],
)
def test_a_configuration_that_says_nothing_is_one_line(tmp_path, pair, content, words):
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes((pair[1] / "adapter_model.safetensors").read_bytes())
    config = tmp_path / "adapter_config.json"
    if content == "circle":
        config.symlink_to(config.name)
    elif content:
        config.write_text(content)
    with pytest.raises(RequestError, match=words):
        checkpoint.open(tmp_path)


def test_an_adapter_for_another_base_is_said_with_the_base_it_names(tmp_path, pair):
    other = tmp_path / "other"
    model_of("llama", hidden_size=32).save_pretrained(other)
    damaged(lambda c, t: c.update(base_model_name_or_path="org/small"))(pair[1])
    with pytest.raises(RequestError, match="an update of 64x96 for model.layers.0.mlp.down_proj"):
        pairing.match(checkpoint.open(other), checkpoint.open(pair[1]))
    with pytest.raises(RequestError, match="trained on, org/small by its configuration"):
        pairing.match(checkpoint.open(other), checkpoint.open(pair[1]))
    notes = pairing.match(checkpoint.open(pair[0]), checkpoint.open(pair[1])).tuned.notes
    assert "The adapter's configuration names org/small as its base." in notes


def test_an_adapter_with_more_words_than_its_base_is_compared_over_the_common_ones(tmp_path, pair):
    base, tuned = pair
    copy = tmp_path / "adapter"
    copy.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (copy / file).write_bytes((tuned / file).read_bytes())
    name = "model.embed_tokens.weight"
    embedding = torch.cat([load_file(base / "model.safetensors")[name] + 1, torch.zeros(3, 64)])
    damaged(lambda c, t: t.update({f"base_model.model.{name}": embedding}))(copy)
    matching = pairing.match(checkpoint.open(base), checkpoint.open(copy))
    assert [row["reason"] for row in matching.unmatched] == ["rows 128 to 130 only in tuned"]
    (embeddings,) = (pair for pair in matching.pairs if pair.name == name)
    np.testing.assert_array_equal(embeddings.tuned, embedding[:128].numpy())
    (updated,) = (pair for pair in matching.pairs if "1.mlp.down_proj" in pair.name)
    assert updated.factors and updated.delta.any()


def test_any_rows_are_those_of_the_whole(tmp_path, monkeypatch):
    """However few are added at a time, of matrices, stacks and rows that DoRA scales."""
    for kind in ("two modules", "DoRA", "inputs by outputs, DoRA", "experts, stacked"):
        architecture, options = KINDS[kind]
        base, tuned, _ = saved(tmp_path / kind, architecture, torch.bfloat16, **options)
        side = pairing.match(checkpoint.open(base), checkpoint.open(tuned)).tuned
        name = next(iter(side.updates))
        whole, (codes, _) = side.read(name), side.read_raw(name)
        monkeypatch.setattr("opdviz.checkpoint.merged.ELEMENTS", 3 * whole.shape[-1])
        for first, last in ((0, len(whole)), (0, 0), (1, 3), (len(whole), len(whole))):
            np.testing.assert_array_equal(side.read(name, first, last), whole[first:last])
            np.testing.assert_array_equal(side.read_raw(name, first, last)[0], codes[first:last])
        monkeypatch.undo()


def test_a_head_that_the_base_ties_is_the_tuned_s_alone(tmp_path, pair):
    base, tuned = tmp_path / "base", tmp_path / "adapter"
    for folder, source in ((base, pair[0]), (tuned, pair[1])):
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(base / "model.safetensors")
    head = tensors.pop("lm_head.weight")
    save_file(tensors, base / "model.safetensors")
    damaged(lambda c, t: t.update({"base_model.model.lm_head.weight": head}))(tuned)
    matching = pairing.match(checkpoint.open(base), checkpoint.open(tuned))
    rows = [(row["side"], row["name"], row["reason"]) for row in matching.unmatched]
    assert rows == [("tuned", "lm_head.weight", "only in tuned")]
    np.testing.assert_array_equal(matching.tuned.read("lm_head.weight"), head.numpy())


def test_adapters_are_no_bases(pair):
    base, adapter = map(checkpoint.open, pair)
    for tuned in (adapter, base):
        with pytest.raises(RequestError, match="an adapter as the base; expected the model"):
            pairing.match(adapter, tuned)


def test_a_base_of_codes_is_not_added_to(tmp_path, pair):
    base = tmp_path / "base"
    base.mkdir()
    tensors = load_file(pair[0] / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[f"{name}_scale_inv"] = torch.ones(1)
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(RequestError, match="as float8_e4m3; expected a base in float32, bfloat16"):
        pairing.match(checkpoint.open(base), checkpoint.open(pair[1]))
