"""Rules on what tensors hold, each on a planted pair that trips it and on one that nearly does."""

import numpy as np

from opdviz import doctor
from tests.doctor.test_rules import LAYERS, WIDTH, base, examined, names, trained

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def test_a_tensor_written_over_another(tmp_path):
    before = base()
    after = trained(before)
    after[names(4)[0]] = after[names(1)[0]]
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"copied"} and not doctor.healthy(list(findings.values()))
    assert set(findings["copied"].tensors) == {names(1)[0], names(4)[0]}
    before[names(4)[0]] = before[names(1)[0]]
    assert not examined(tmp_path / "alike", before, after), "they were equal before"


def test_a_tensor_that_is_transposed_or_permuted(tmp_path):
    before = base()
    for at, changed in enumerate((before[names(2)[0]].T, before[names(2)[0]][::-1])):
        after = trained(before) | {names(2)[0]: np.ascontiguousarray(changed)}
        findings = examined(tmp_path / str(at), before, after)
        assert set(findings) == {"rearranged"}
        assert findings["rearranged"].tensors == (names(2)[0],)
        assert ("transposed", "permuted")[at] in findings["rearranged"].sentence
    norm = "model.layers.0.input_layernorm.weight"
    before[norm][:2] = 0.5, 0.75
    after = trained(before) | {norm: before[norm][[1, 0, *range(2, WIDTH)]]}
    assert not examined(tmp_path / "two", before, after), "two of a norm are an accident"


def test_two_tensors_whose_names_were_exchanged(tmp_path):
    before = base()
    first, second = names(0)[1], names(5)[1]
    after = trained(before) | {first: before[second], second: before[first]}
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"rearranged"}
    assert sorted(findings["rearranged"].tensors) == [first, second]
    assert "hold what another tensor holds in the base" in findings["rearranged"].sentence


def test_a_tie_that_came_apart_and_one_that_nobody_declared(tmp_path):
    before = base()
    before[HEAD] = before[EMBEDDING].copy()
    findings = examined(tmp_path, before, trained(before))
    assert set(findings) == {"tied_apart"} and doctor.healthy(list(findings.values()))
    assert set(findings["tied_apart"].tensors) == {HEAD, EMBEDDING}
    after = trained(before)
    after[HEAD] = after[EMBEDDING]
    assert set(examined(tmp_path / "equal", before, after)) == {"untied_equal"}
    after = trained(before) | {name: before[name] for name in (HEAD, EMBEDDING)}
    assert not examined(tmp_path / "still", before, after), "neither moved"


def test_weights_that_became_zero(tmp_path):
    before, rng = base(), np.random.default_rng(2)
    for share, rules in ((0.03, {"new_zeros"}), (0.003, set())):
        kept = {n: rng.random(w.shape) > share for n, w in before.items()}
        after = {n: w * kept[n] for n, w in trained(before, size=0.1).items()}
        findings = examined(tmp_path / str(share), before, after)
        assert set(findings) == rules
    zeros = sum(int((~mask).sum()) for mask in kept.values())
    assert zeros > 100, "some did, fewer than the threshold"


def test_rows_that_became_zero(tmp_path):
    before = base()
    after = trained(before)
    after[names(3)[2]][10:20] = 0.0
    findings = examined(tmp_path, before, after)
    assert set(findings) == {"zeroed_rows"}
    assert "10 of 64 rows of 1 matrix became zero" in findings["zeroed_rows"].sentence
    before[names(3)[2]][10:20] = 0.0
    assert not examined(tmp_path / "before", before, after), "they were zero before"


def test_a_whole_tensor_of_zeros_is_said_once(tmp_path):
    before = base()
    zeros = {names(layer)[0]: np.zeros((WIDTH, WIDTH)) for layer in range(LAYERS - 1)}
    findings = examined(tmp_path, before, trained(before) | zeros)
    assert set(findings) == {"zeroed_rows"}
    assert "All 320 rows of 5 matrices became zero" in findings["zeroed_rows"].sentence
