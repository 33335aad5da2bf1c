"""Every rule on a planted pair that trips it, and on one that nearly does; healthy runs trip none."""

import json
from pathlib import Path

import numpy as np
import pytest

from opdviz import demo, doctor
from opdviz.checkpoint.formats import rounded
from opdviz.cli import main
from opdviz.errors import RequestError
from opdviz.lab.places import Places
from opdviz.measures import identity, magnitude, octaves, sparsity
from opdviz.store.store import Store
from tests.conftest import write_checkpoint

ROOT = Path(__file__).parent.parent.parent

LAYERS, WIDTH = 6, 64
SHRANK = {"decay_alone", "decayed_words"}
MODULES = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def names(layer: int) -> list[str]:
    """The matrices of a layer."""
    return [f"model.layers.{layer}.{module}.weight" for module in MODULES]


def base(seed: int = 0, *, experts: int = 0) -> dict[str, np.ndarray]:
    """The weights of a small model."""
    rng = np.random.default_rng(seed)
    shape = (WIDTH, WIDTH)
    tensors = {"model.embed_tokens.weight": rng.normal(scale=0.5, size=(128, WIDTH))}
    for layer in range(LAYERS):
        tensors |= {name: rng.normal(scale=0.05, size=shape) for name in names(layer)}
        place = f"model.layers.{layer}"
        tensors[f"{place}.input_layernorm.weight"] = 1 + 0.1 * rng.normal(size=WIDTH)
        for expert in range(experts):
            tensors[f"{place}.mlp.experts.{expert}.up_proj.weight"] = rng.normal(
                scale=0.05, size=(16, WIDTH)
            )
        if experts:
            tensors[f"{place}.mlp.gate.weight"] = rng.normal(scale=0.05, size=(experts, WIDTH))
    return tensors


def trained(tensors: dict[str, np.ndarray], seed: int = 1, size: float = 2e-3) -> dict:
    """The same after a training that moves all of it."""
    rng = np.random.default_rng(seed)
    return {
        name: w + size * np.sqrt((w**2).mean()) * rng.normal(size=w.shape)
        for name, w in tensors.items()
    }


def examined(tmp_path, before: dict, after: dict, dtype: str | tuple = "float32", **declared):
    """The findings of a pair, by rule."""
    sides = (dtype, dtype) if isinstance(dtype, str) else dtype
    paths = [
        write_checkpoint(tmp_path / side, tensors, form)
        for side, tensors, form in zip(("base", "tuned"), (before, after), sides, strict=True)
    ]
    return {finding.rule: finding for finding in doctor_says(tmp_path, *paths, **declared)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("experts", [0, 4])
def test_a_healthy_run_trips_no_rule(tmp_path, dtype, experts):
    before = base(experts=experts)
    findings = examined(tmp_path, before, trained(before, size=2e-2), dtype)
    assert set(findings) == ({"router"} if experts else set())
    assert doctor.healthy(list(findings.values()))


def test_two_that_do_not_differ(tmp_path):
    before = base()
    findings = examined(tmp_path, before, before)
    assert set(findings) == {"identical"} and not doctor.healthy(list(findings.values()))
    assert findings["identical"].evidence["weights"] == sum(w.size for w in before.values())


def test_matrices_left_behind_in_some_layers(tmp_path):
    before = base()
    after = trained(before)
    stay = [names(2)[1], names(4)[3]]
    findings = examined(tmp_path, before, after | {name: before[name] for name in stay})
    assert set(findings) == {"left_behind"}
    assert sorted(findings["left_behind"].tensors) == sorted(stay)
    assert "2 of 24 matrices are bit-equal" in findings["left_behind"].sentence


def test_a_matrix_that_chance_may_have_left_out_is_none(tmp_path):
    """Of one in a thousand coordinates moved a matrix of 4,096 has four: none is no wonder."""
    before, rng = base(), np.random.default_rng(1)
    after = {n: w * np.where(rng.random(w.shape) < 1e-3, 1.5, 1.0) for n, w in before.items()}
    after[names(2)[1]] = before[names(2)[1]]
    assert "left_behind" not in examined(tmp_path, before, after)


def test_layers_of_which_nothing_moved(tmp_path):
    before = base()
    stay = [*names(0), *names(1), "model.layers.0.input_layernorm.weight"]
    findings = examined(tmp_path, before, trained(before) | {n: before[n] for n in stay})
    assert set(findings) == {"layer_frozen"}
    assert sorted(findings["layer_frozen"].tensors) == sorted([*names(0), *names(1)])
    assert "2 of 6 layers have no matrix that moved, though others have: 0 and 1." in (
        findings["layer_frozen"].sentence
    )


def test_norms_that_stayed_at_one_and_biases_at_zero(tmp_path):
    before = base()
    norm, bias = "model.layers.2.input_layernorm.weight", "model.layers.2.self_attn.q_proj.bias"
    start = {norm: np.ones(WIDTH), bias: np.zeros(WIDTH)}
    before |= start
    paths_and_rules = []
    for moved, rules in ((False, {"at_their_start"}), (True, set())):
        after = trained(before) | ({} if moved else start)
        after[bias] = after[bias] + (1e-3 if moved else 0.0)
        paths_and_rules.append((after, rules))
    for at, (after, rules) in enumerate(paths_and_rules):
        findings = examined(tmp_path / str(at), before, after)
        assert set(findings) == rules


def test_a_module_frozen_in_every_layer(tmp_path):
    before = base()
    stay = [names(layer)[0] for layer in range(LAYERS)]
    findings = examined(tmp_path, before, trained(before) | {n: before[n] for n in stay})
    assert set(findings) == {"module_frozen"}
    assert findings["module_frozen"].sentence.startswith("q_proj moved in none of its 6 matrices")
    assert doctor.healthy(list(findings.values())), "a warning"


def test_norms_and_embeddings_alone(tmp_path):
    before = base()
    small = {n: w for n, w in trained(before).items() if "proj" not in n}
    findings = examined(tmp_path, before, before | small)
    assert set(findings) == {"only_small"}
    assert "embedding, norm alone" in findings["only_small"].sentence


def test_what_was_declared(tmp_path):
    before = base()
    after = trained(before) | {"model.embed_tokens.weight": before["model.embed_tokens.weight"]}
    declared = {"frozen": ["*embed*", "model.layers.0.*"], "moved": ["*.up_proj.*"]}
    with pytest.raises(RequestError, match="expected frozen and expected moved"):
        examined(tmp_path, before, after, **declared)
    (comparison,) = Store(tmp_path / "cache").all()
    (finding,) = doctor.examine(comparison, frozen=["*embed*", "model.layers.0.*"])
    assert finding.rule == "declaration" and len(finding.tensors) == 5
    assert "5 of 6 tensors were expected frozen, and moved" in finding.sentence
    assert not doctor.examine(comparison, frozen=["*embed*"], moved=["*_proj.*"])
    (finding,) = doctor.examine(comparison, moved=["*embed*"])
    assert "expected to move, and did not" in finding.sentence
    with pytest.raises(RequestError, match="found none of 31 tensors that it fits"):
        doctor.examine(comparison, moved=["visual.*"])


def test_experts_that_never_moved(tmp_path):
    before = base(experts=4)
    stay = ["model.layers.3.mlp.experts.2.up_proj.weight"]
    findings = examined(tmp_path, before, trained(before) | {n: before[n] for n in stay})
    assert set(findings) == {"idle_experts", "router"}
    assert findings["idle_experts"].tensors == tuple(stay)
    assert "1 of 24 experts never moved" in findings["idle_experts"].sentence
    assert findings["router"].evidence["moved"] == 6


def test_another_model(tmp_path):
    before = base()
    findings = examined(tmp_path, before, trained(before) | {names(1)[0]: base(9)[names(1)[0]]})
    assert "another_model" in findings and findings["another_model"].tensors == (names(1)[0],)
    far = examined(tmp_path / "far", before, trained(before, size=0.9))
    assert "another_model" not in far, "cosine 0.74"


def test_weight_decay_alone(tmp_path):
    before = base()
    shrunk = {names(layer)[0]: 0.99 * before[names(layer)[0]] for layer in (0, 1)}
    findings = examined(tmp_path, before, trained(before, size=1e-2) | shrunk)
    assert set(findings) == {"decay_alone"} and len(findings["decay_alone"].tensors) == 2
    mixed = {n: 0.99 * w + (w - before[n]) for n, w in trained(before, size=1e-2).items()}
    assert not examined(tmp_path / "mixed", before, mixed), "shrunk, and as much besides"


def test_words_that_only_decayed(tmp_path):
    before = base()
    after = trained(before)
    words = after["model.embed_tokens.weight"]
    words[:10] = 0.999 * before["model.embed_tokens.weight"][:10]
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"decayed_words"}
    assert "10 of 128 rows of embed_tokens only shrank" in findings["decayed_words"].sentence


def test_values_that_are_not_finite(tmp_path):
    before = base()
    after = trained(before)
    after[names(0)[0]][:2, :3] = np.nan
    after[names(1)[0]][0, 0] = np.inf
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"not_finite"}
    assert "7 coordinates of 2 tensors" in findings["not_finite"].sentence


def test_one_matrix_that_moved_far_more_than_its_like(tmp_path):
    before = base()
    after = trained(before)
    after[names(3)[2]] = trained(before, size=2e-2)[names(3)[2]]
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"scale_jump"} and findings["scale_jump"].tensors == (names(3)[2],)
    after[names(3)[2]] = trained(before, size=4e-3)[names(3)[2]]
    assert not examined(tmp_path / "twice", before, after), (
        "twice as much is within a factor of two"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_base_stored_finer_than_the_tuned(tmp_path, dtype):
    """What storing alone changes is that of the tensors themselves."""
    before = base()
    after = trained(before, size=2e-3)
    findings = examined(tmp_path, before, after, ("float32", dtype))
    assert set(findings) == {"narrowed"}
    exact = {n: w.astype(np.float32) for n, w in before.items()}
    kept = {n: rounded(w, dtype).astype(float) for n, w in exact.items()}
    tuned = {n: rounded(w.astype(np.float32), dtype).astype(float) for n, w in after.items()}
    storing = sum(((kept[n] - exact[n]) ** 2).sum() for n in exact)
    differs = storing + sum(((tuned[n] - kept[n]) ** 2).sum() for n in exact)
    share = findings["narrowed"].evidence["rounding_share"]
    assert share == pytest.approx(storing / differs, rel=0.04)
    told = {"bfloat16": "about 0.166 % of their norm", "float16": "about 0.0208 % of their norm"}
    assert told[dtype] in findings["narrowed"].sentence


def test_a_vocabulary_of_another_size(tmp_path):
    before = base()
    after = trained(before)
    after["model.embed_tokens.weight"] = np.ones((130, WIDTH))
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"resized"}
    assert "rows 128 to 129 only in tuned; not compared" in findings["resized"].sentence
    after["model.embed_tokens.weight"] = np.ones((128, WIDTH + 1))
    findings = examined(tmp_path / "wider", before, after)
    assert "base 128x64, tuned 128x65; not compared" in findings["resized"].sentence


def test_every_weight_one_step_on(tmp_path):
    before = base()
    bits = {n: w.astype(np.float32).view(np.uint32) >> 16 << 16 for n, w in before.items()}
    first = {n: b.view(np.float32) for n, b in bits.items()}
    after = {n: (b + np.uint32(1 << 16)).view(np.float32) for n, b in bits.items()}
    findings = examined(tmp_path, first, after, "bfloat16")
    assert "one_step" in findings and not doctor.healthy(list(findings.values()))
    half = {
        n: np.where(np.arange(w.size).reshape(w.shape) % 2, w, first[n]) for n, w in after.items()
    }
    assert "one_step" not in examined(tmp_path / "half", first, half, "bfloat16")


def test_float32_files_of_bf16_values(tmp_path):
    before = base()
    cut = [
        {
            n: (w.astype(np.float32).view(np.uint32) >> 16 << 16).view(np.float32)
            for n, w in side.items()
        }
        for side in (before, trained(before, size=5e-2))
    ]
    assert set(examined(tmp_path, *cut)) == {"sixteen_in_thirty_two"}


def test_the_command_says_its_findings_and_its_exit_code(tmp_path, capsys):
    before = base()
    stay = {names(2)[1]: before[names(2)[1]]}
    paths = [
        str(write_checkpoint(tmp_path / side, tensors))
        for side, tensors in (("base", before), ("tuned", trained(before) | stay))
    ]
    where = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    assert main(["doctor", *paths, *where]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("error    left_behind: 1 of 24 matrices") and names(2)[1] in out
    assert "doctor: 1 of 1 findings say that something is wrong." in err
    (key,) = Store(tmp_path / "cache").keys()
    assert main(["doctor", key, "--json", *where]) == 1
    value = json.loads(capsys.readouterr().out)
    assert not value["healthy"] and set(value["findings"][0]) == set(doctor.COLUMNS)
    assert json.loads(value["findings"][0]["evidence"])["threshold"] == 20
    assert main(["doctor", key, "--rules", "not_finite,identical", *where]) == 0
    assert "2 rules, 0 findings" in capsys.readouterr().out
    for wrong, words in (
        ([key, "--rules", "nothing"], "there are: identical, left_behind"),
        ([key, "--expect-moved", "visual.*"], "found none of 31 tensors"),
        (
            [key, "--expect-moved", "*", "--expect-frozen", "*embed*"],
            "expected frozen and expected",
        ),
        ([key, key, key], "found 3 words"),
        (["nothing"], "nothing"),
    ):
        assert main(["doctor", *wrong, *where]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_a_comparison_is_examined_once_all_of_it_is_measured_or_left_out(tmp_path, capsys):
    before = base()
    paths = [
        str(write_checkpoint(tmp_path / side, tensors | {"empty": np.zeros((0, 4))}))
        for side, tensors in (("base", before), ("tuned", trained(before)))
    ]
    where = ["--cache", str(tmp_path / "cache"), "--workers", "1"]
    measures = ["--measures", ",".join(doctor.MEASURES), *where]
    assert main(["compare", *paths, "--tensors", "*layers.0*", *measures]) == 0
    (key,) = Store(tmp_path / "cache").keys()
    capsys.readouterr()
    assert main(["doctor", key, *where]) == 2
    assert "5 of 32 tensors are measured" in capsys.readouterr().err
    assert main(["compare", *paths, *measures]) == 0
    assert main(["doctor", key, *where]) == 0


def test_a_comparison_of_before_the_rules_measure_is_not_examined(tmp_path, capsys):
    before = base()
    paths = [
        str(write_checkpoint(tmp_path / side, tensors))
        for side, tensors in (("base", before), ("tuned", trained(before)))
    ]
    where = ["--workers", "1", "--cache", str(tmp_path / "cache")]
    assert main(["compare", *paths, "--measures", "magnitude,sparsity", *where]) == 0
    (key,) = Store(tmp_path / "cache").keys()
    capsys.readouterr()
    assert main(["doctor", key, *where]) == 2
    assert "0 of 31 tensors are measured as far as the rules look" in capsys.readouterr().err
    assert main(["doctor", *paths, *where]) == 0


def test_rules_read_no_more_than_they_say():
    assert doctor.MEASURES == (
        magnitude.NAME,
        sparsity.NAME,
        identity.NAME,
        octaves.NAME,
    )
    assert len({rule.name for rule in doctor.RULES}) == len(doctor.RULES)
    for rule in doctor.RULES:
        assert rule.question.endswith("?") and rule.means.endswith(".") and rule.source


def test_the_docs_list_every_rule_as_it_is():
    text = (ROOT / "docs" / "doctor.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    told = [(row[0].strip("|` "), row[1], row[2]) for row in rows]
    assert told == [(rule.name, rule.severity, rule.question) for rule in doctor.RULES]


def test_the_demonstration_pair_has_words_that_only_decayed(tmp_path):
    findings = doctor_says(tmp_path, *demo.pair())
    still, *words = findings
    assert still.rule == "at_their_start" and still.tensors == ("pooler.dense.bias",)
    assert [finding.rule for finding in words] == ["decayed_words"] * 3
    assert "28,502 of 30,522 rows of word_embeddings only shrank" in words[2].sentence


@pytest.mark.parametrize(
    ("run", "rules"),
    [
        ("opd", set()),
        ("grpo", set()),
        ("opd_sgd", SHRANK),
        ("opd_16bit", {"rounded_away"}),
    ],
)
def test_the_lab_s_runs_trip_what_is_true_of_them(tmp_path, shipped_runs, run, rules):
    """SGD at its large rate, with AdamW's decay, moves most matrices by decay; in 16 bits steps of
    AdamW's small one do not show in large weights.
    """
    places = Places(shipped_runs)
    findings = doctor_says(tmp_path, places.of("base"), places.of(run))
    assert {finding.rule for finding in findings} == rules and doctor.healthy(findings)


def doctor_says(folder, base, tuned, **declared) -> list[doctor.Finding]:
    """The findings of two checkpoints, compared as far as the rules look."""
    where = ["--workers", "1", "--cache", str(folder / "cache")]
    measures = ["--measures", ",".join(doctor.MEASURES)]
    assert main(["compare", str(base), str(tuned), *measures, *where]) == 0
    (comparison,) = Store(folder / "cache").all()
    return doctor.examine(comparison, **declared)
