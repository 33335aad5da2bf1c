"""The command line on small checkpoints: figures, exit codes, one line for every wrong request,
nothing lost.
"""

import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from opdviz import __version__
from opdviz.cli import main
from opdviz.measures import MEASURES
from opdviz.store import status
from opdviz.tables import TABLES
from tests.commands import in_a_process, opdviz, refused
from tests.conftest import GOLDEN, write_checkpoint


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Path, dict]:
    """A cache with the golden pair a, compared on the command line, and what the command said."""
    cache = tmp_path_factory.mktemp("cache")
    sides = (GOLDEN / "base", GOLDEN / "tuned_a")
    done = in_a_process("compare", *sides, "--name", "a", "--workers", 2, "--json", cache=cache)
    assert done.returncode == 0, done.stderr
    return cache, json.loads(done.stdout)


def test_compare_says_what_it_found(compared):
    _, said = compared
    assert (said["name"], said["pairs"], said["parameters"]) == ("a", 30, 196_032)
    assert 0 < said["relative_norm"] < 10
    assert 79 < said["sparsity_absolute_1e-5"] < 82
    assert said["top16_energy"] > 50


def test_list_show_headline_rename_and_forget(compared, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(compared[0], cache)
    (row,) = json.loads(opdviz("list", "--json", cache=cache).stdout)
    assert (row["state"], row["done_share"], row["pairs"], row["name"]) == ("done", 1.0, 30, "a")
    tensors = pd.read_csv(io.StringIO(opdviz("show", "a", "tensors", cache=cache).stdout))
    assert len(tensors) == 30
    assert tensors["numel"].sum() == 196_032
    for protocol in "ABCD":
        rows = json.loads(
            opdviz("headline", "a", "--protocol", protocol, "--json", cache=cache).stdout
        )
        assert {
            "protocol",
            "quantity",
            "value",
            "unit",
            "aggregation",
            "chance",
            "chance_low",
            "chance_high",
        } == set(rows[0])
        assert all(r["value"] is not None for r in rows)
    text = opdviz("headline", "a", cache=cache).stdout
    assert "published" in text and "DeepScaleR" in text
    assert opdviz("rename", "a", "b", cache=cache).returncode == 0
    assert json.loads(opdviz("list", "--json", cache=cache).stdout)[0]["name"] == "b"
    assert opdviz("forget", "b", cache=cache).returncode == 0
    assert json.loads(opdviz("list", "--json", cache=cache).stdout) == []


@pytest.mark.parametrize("table", TABLES)
def test_every_table_comes_in_every_format_with_equal_rows(compared, table, tmp_path, capfdbinary):
    show = ["show", "a", table, "--cache", str(compared[0])]
    printed = []
    for more in (
        ["--format", "json"],
        [],
        ["--format", "parquet", "--out", str(tmp_path / "t.parquet")],
    ):
        assert main([*show, *more]) == 0
        printed.append(capfdbinary.readouterr().out.decode())
    rows, text = json.loads(printed[0]), printed[1]
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert len(rows) == len(frame) == (len(pd.read_csv(io.StringIO(text))) if len(frame) else 0)
    assert len(rows) > 0 or table in ("unmatched", "rewrites")
    for row, other in zip(rows[:50], frame.to_dict("records")):
        for column, value in row.items():
            assert value == other[column] or (value is None and pd.isna(other[column]))


def test_verify_names_a_damaged_table_and_compare_recomputes_it(compared, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(compared[0], cache)
    before = {p.name: p.read_bytes() for p in cache.rglob("tables/*.parquet")}
    assert opdviz("verify", cache=cache).returncode == 0
    assert opdviz("verify", "a", "--content", cache=cache).returncode == 0
    victim = next(cache.rglob("tables/projection.geometry.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes(data)
    done = opdviz("verify", cache=cache)
    assert done.returncode == 1
    assert "projection.geometry.parquet is damaged" in done.stdout
    assert (
        opdviz(
            "compare", GOLDEN / "base", GOLDEN / "tuned_a", "--name", "a", cache=cache
        ).returncode
        == 0
    )
    assert opdviz("verify", cache=cache).returncode == 0
    assert {p.name: p.read_bytes() for p in cache.rglob("tables/*.parquet")} == before


def test_a_damaged_part_is_named_and_computed_again(compared, tmp_path):
    assert (
        opdviz(
            "compare", GOLDEN / "base", GOLDEN / "tuned_a", "--tensors", "*mlp*", cache=tmp_path
        ).returncode
        == 0
    )
    parts = sorted(tmp_path.rglob("parts/*.json"))
    assert len(parts) == 9 * len(MEASURES)
    parts[5].write_bytes(parts[5].read_bytes()[:-3])
    done = opdviz("verify", cache=tmp_path)
    assert done.returncode == 1
    assert f"parts/{parts[5].name} is damaged" in done.stdout
    (row,) = json.loads(opdviz("list", "--json", cache=tmp_path).stdout)
    assert row["state"] == "partial"
    assert row["done_share"] == pytest.approx(status.MEASURED * 9 / 30)
    assert (
        opdviz(
            "compare", GOLDEN / "base", GOLDEN / "tuned_a", "--workers", 1, cache=tmp_path
        ).returncode
        == 0
    )
    assert opdviz("verify", cache=tmp_path).returncode == 0
    whole = {p.name: p.read_bytes() for p in compared[0].rglob("tables/*.parquet")}
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("tables/*.parquet")} == whole


def test_wrong_requests_are_one_line_and_write_nothing(tmp_path):
    good, cache = GOLDEN / "base", tmp_path / "cache"
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme").mkdir()
    (tmp_path / "readme" / "README.md").write_text("x")
    (tmp_path / "other").mkdir()
    save_file({"nothing.shared": torch.zeros(3)}, tmp_path / "other" / "model.safetensors")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60))
    for folder, words in (
        ("absent", "found nothing there"),
        ("empty", "an empty folder"),
        ("readme", "only README.md"),
        ("other", "no tensor in common"),
        ("bad", "header of"),
    ):
        for command in ("check", "compare"):
            refused(opdviz(command, good, tmp_path / folder, cache=cache), words)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no command"),
        (("nonsense",), "invalid choice"),
        (("compare", "x"), "required: tuned"),
        (("show", "nobody", "tensors"), "is no comparison in the cache"),
        (("show", "a", "nonsense"), "is unknown; there are: tensors"),
        (("show", "a", "tensors", "--format", "parquet"), "needs --out"),
        (("headline", "a", "--protocol", "Z"), "there are: A, B, C, D"),
        (
            ("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--measures", "magic"),
            "there are: magnitude",
        ),
        (("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--tensors", "zzz*"), "fits none of 30"),
        (("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--device", "tpu"), "expected cpu, cuda"),
        (
            ("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--device", "cuda:99"),
            "--device cuda:99: ",
        ),
        (("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--workers", "0"), "expected 1 to 256"),
        (
            ("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--workers", "99999999"),
            "expected 1 to 256",
        ),
        (
            ("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--measures", ""),
            "there are: magnitude",
        ),
        (("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--tensors", ""), "fits none of 30"),
        (("compare", GOLDEN / "base", GOLDEN / "tuned_a", "--name", ""), "printable characters"),
        (("rename", "a", " "), "printable characters"),
        (("rename", "a", "two\nlines"), "printable characters"),
        (("rename", "a", "\x1b[31mred"), "printable characters"),
        (("rename", "a", "x" * 201), "printable characters"),
        (("rename", "a", "0123456789abcdef"), "printable characters"),
        (("app", "--roots", "/does/not/exist"), "is no folder"),
    ],
)
def test_a_wrong_word_is_one_line(compared, arguments, words):
    refused(opdviz(*arguments, cache=compared[0]), words)


def test_the_same_folder_twice_and_nan_are_said_and_not_refused(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    broken = x.copy()
    broken[0, 0], broken[1, 1] = np.nan, np.inf
    base = write_checkpoint(
        tmp_path / "base", {"a.weight": x, "b.weight": x, "n": np.arange(4), "m": np.arange(4)}
    )
    tuned = write_checkpoint(
        tmp_path / "tuned",
        {"a.weight": x * 1.01, "b.weight": broken, "n": np.arange(4), "m": np.ones(4)},
    )
    for side, arrays in ((base, (0, 1)), (tuned, (0, 2))):
        save_file(
            {"a.weight": torch.tensor(x * (1 + 0.01 * (side == tuned))), "b.weight": torch.tensor(broken if side == tuned else x),
             "n": torch.arange(4), "m": torch.full((4,), arrays[1])},
            side / "model.safetensors",
        )  # fmt: skip
    said = opdviz("check", base, base, cache=tmp_path / "c")
    assert said.returncode == 0
    assert "same folder" in said.stdout
    assert opdviz("compare", base, base, "--name", "same", cache=tmp_path / "c").returncode == 0
    assert opdviz("compare", base, tuned, "--name", "nan", cache=tmp_path / "c").returncode == 0
    rows = {
        r["name"]: r
        for r in json.loads(
            opdviz("show", "nan", "tensors", "--format", "json", cache=tmp_path / "c").stdout
        )
    }
    assert rows["b.weight"]["nonfinite"] == 2
    assert rows["a.weight"]["nonfinite"] == 0
    skipped = json.loads(
        opdviz("show", "nan", "skipped", "--format", "json", cache=tmp_path / "c").stdout
    )
    reasons = {(r["name"], r["measure"]): r["reason"] for r in skipped}
    assert "NaN or infinite" in reasons["b.weight", "spectrum"]
    assert reasons["n", "magnitude"] == "integers: equal"
    assert reasons["m", "magnitude"] == "integers: differs in 4 places"
    headline = json.loads(opdviz("headline", "nan", "--json", cache=tmp_path / "c").stdout)
    norm = next(r["value"] for r in headline if r["quantity"] == "relative_norm")
    rounded = [torch.tensor(y).bfloat16().double() for y in (x, x * 1.01)]
    assert norm == pytest.approx(
        100 * float((rounded[1] - rounded[0]).norm() / rounded[0].norm()), rel=1e-6
    )


def test_a_file_size_limit_ends_with_3_and_the_rerun_finishes(compared, tmp_path):
    pair = (GOLDEN / "base", GOLDEN / "tuned_a")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = in_a_process("compare", *pair, "--json", cache=tmp_path, preexec_fn=limit)
    refused(done, "what was finished before is kept", 3)
    assert list(tmp_path.rglob("parts/*.json"))
    assert not list(tmp_path.rglob("*.tmp"))
    assert opdviz("verify", cache=tmp_path).returncode == 0
    assert opdviz("compare", *pair, cache=tmp_path).returncode == 0
    whole = {p.name: p.read_bytes() for p in compared[0].rglob("tables/*.parquet")}
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("tables/*.parquet")} == whole


def test_the_version_and_every_command_have_help(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"opdviz {__version__}\n"
    for command in (
        "check",
        "compare",
        "list",
        "show",
        "headline",
        "verify",
        "rename",
        "forget",
        "app",
    ):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert command in capsys.readouterr().out


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
def test_pytorch_files_give_the_same_tables_as_safetensors(compared, tmp_path, old):
    for side, folder in (("base", "base"), ("tuned", "tuned_a")):
        (tmp_path / side).mkdir()
        state = load_file(GOLDEN / folder / "model.safetensors")
        torch.save(
            state, tmp_path / side / "pytorch_model.bin", _use_new_zipfile_serialization=not old
        )
    said = opdviz("check", tmp_path / "base", tmp_path / "tuned", cache=tmp_path / "c")
    assert ("old format: it is loaded once as a whole" in said.stdout) == old
    assert (
        opdviz("compare", tmp_path / "base", tmp_path / "tuned", cache=tmp_path / "c").returncode
        == 0
    )
    whole = {p.name: p.read_bytes() for p in compared[0].rglob("tables/*.parquet")}
    assert {p.name: p.read_bytes() for p in (tmp_path / "c").rglob("tables/*.parquet")} == whole


def test_an_update_too_large_for_float32_is_measured_and_one_beyond_float64_is_in_no_total(
    tmp_path,
):
    x = np.ones((8, 6), dtype=np.float32)
    sides = {"base": (3e38, 1.7e308), "tuned": (-3e38, -1.7e308)}
    for side, (single, double) in sides.items():
        (tmp_path / side).mkdir()
        tensors = {
            "a": torch.tensor(x * np.float32(single)),
            "b": torch.full((8, 6), double, dtype=torch.float64),
        }
        save_file(tensors, tmp_path / side / "model.safetensors")
    done = opdviz(
        "compare", tmp_path / "base", tmp_path / "tuned", "--name", "x", cache=tmp_path / "c"
    )
    assert done.returncode == 0
    assert "Warning" not in done.stderr
    rows = json.loads(opdviz("headline", "x", "--json", cache=tmp_path / "c").stdout)
    norm = next(r for r in rows if r["quantity"] == "relative_norm")
    assert norm["value"] == pytest.approx(200.0)
    assert norm["aggregation"] == "global, both sides rounded to bf16; 1 tensors left out"


def test_out_never_replaces_what_is_no_plain_file(compared, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for target in ("pipe", ".", "absent/t.csv"):
        done = opdviz("show", "a", "tensors", "--out", tmp_path / target, cache=compared[0])
        refused(done, "show --out")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "real.csv")
    assert (
        opdviz("show", "a", "tensors", "--out", tmp_path / "link", cache=compared[0]).returncode
        == 0
    )
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("name,")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "{}",
        "",
        '{"name": 3}',
        '{"name": null, "pairs": null}',
        '{"name": "a", "pairs": "x"}',
    ],
)
def test_a_damaged_manifest_is_said_and_compare_or_forget_mends_it(compared, tmp_path, text):
    cache = tmp_path / "cache"
    shutil.copytree(compared[0], cache)
    (manifest,) = cache.rglob("manifest.json")
    key = manifest.parent.name
    manifest.write_text(text)
    assert "damaged" in opdviz("list", cache=cache).stdout
    done = opdviz("verify", cache=cache)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert opdviz("compare", GOLDEN / "base", GOLDEN / "tuned_a", cache=cache).returncode == 0
    assert opdviz("verify", cache=cache).returncode == 0
    manifest.write_text(text)
    assert opdviz("forget", key, cache=cache).returncode == 0
    assert not manifest.parent.exists()


@pytest.mark.parametrize("text", ["[1]", "junk", '{"x": [1]}'])
def test_a_damaged_memory_of_fingerprints_is_made_again(compared, tmp_path, text):
    cache = tmp_path / "cache"
    shutil.copytree(compared[0], cache)
    (cache / "fingerprints.json").write_text(text)
    assert opdviz("compare", GOLDEN / "base", GOLDEN / "tuned_a", cache=cache).returncode == 0


@pytest.mark.parametrize(
    "change", [lambda p: p.unlink(), lambda p: p.write_text("junk")], ids=["lost", "junk"]
)
def test_a_lost_or_damaged_table_is_one_line_where_it_is_read(compared, tmp_path, change):
    cache = tmp_path / "cache"
    shutil.copytree(compared[0], cache)
    change(next(cache.rglob("tensors.magnitude.parquet")))
    refused(opdviz("show", "a", "tensors", cache=cache), "missing or damaged", 1)
    refused(opdviz("headline", "a", cache=cache), "missing or damaged", 1)


def test_a_cache_that_is_a_file_is_a_wrong_request(tmp_path):
    (tmp_path / "cache").write_text("x")
    for arguments in (("list",), ("verify",), ("compare", GOLDEN / "base", GOLDEN / "tuned_a")):
        refused(opdviz(*arguments, cache=tmp_path / "cache"), "found a file; expected a folder")


def test_a_headline_of_a_part_says_that_it_is_one(tmp_path):
    pair = (GOLDEN / "base", GOLDEN / "tuned_a")
    done = opdviz(
        "compare",
        *pair,
        "--name",
        "part",
        "--tensors",
        "*mlp*",
        "--measures",
        "sparsity",
        cache=tmp_path,
    )
    assert "sparsity_absolute_1e-5" in done.stdout
    rows = json.loads(opdviz("headline", "part", "--json", cache=tmp_path).stdout)
    assert all("of 9 of 30 tensors only" in row["aggregation"] for row in rows)
    values = {row["quantity"]: row["value"] for row in rows}
    assert values["sparsity_absolute_1e-5"] > 50
    assert values["stable_rank"] is None


def test_a_headline_of_the_whole_says_nothing_of_parts(compared):
    rows = json.loads(opdviz("headline", "a", "--json", cache=compared[0]).stdout)
    assert not any("only" in row["aggregation"] or "left out" in row["aggregation"] for row in rows)


def test_verify_of_an_empty_key_is_a_wrong_request_and_of_none_is_everything(compared):
    refused(opdviz("verify", "--", "", cache=compared[0]), "'' is no comparison in the cache")
    refused(opdviz("verify", "", cache=compared[0]), "'' is no comparison in the cache")
    for arguments in (("verify",), ("verify", "--")):
        done = opdviz(*arguments, cache=compared[0])
        assert (done.returncode, done.stdout) == (0, "1 comparisons, no fault.\n")


def test_out_takes_a_name_as_long_as_a_disk_does(compared, tmp_path):
    done = opdviz("show", "a", "tensors", "--out", tmp_path / ("x" * 250), cache=compared[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert [p.name for p in tmp_path.iterdir()] == ["x" * 250]
    refused(
        opdviz("show", "a", "tensors", "--out", tmp_path / ("x" * 256), cache=compared[0]),
        "found no usable name",
    )


@pytest.mark.parametrize("cache", ["x" * 300, "/x" * 3000])
def test_a_cache_that_no_disk_takes_is_a_wrong_request(tmp_path, cache):
    for arguments in (("list",), ("verify",), ("compare", GOLDEN / "base", GOLDEN / "tuned_a")):
        refused(opdviz(*arguments, cache=tmp_path / cache), "expected a folder")


def test_check_prints_the_first_of_many_lines_and_lists_all_as_json(tmp_path):
    same, other = {"w": np.zeros(1)}, {"tuned": "b", "base": "a"}
    sides = [
        write_checkpoint(tmp_path / side, same | {f"{letter}{i}": np.zeros(1) for i in range(150)})
        for side, letter in other.items()
    ]
    done = opdviz("check", *sides, cache=tmp_path / "c")
    assert done.stdout.count("left over: ") == 200
    assert done.stdout.endswith("  ... and 100 more; --json lists them all.\n")
    assert (
        len(json.loads(opdviz("check", *sides, "--json", cache=tmp_path / "c").stdout)["unmatched"])
        == 300
    )


SLOW = """
import sys, time
from opdviz import cli
from opdviz.store import bundles
from opdviz.tables import summaries
slow = {module}.{name}
def wait(*arguments):
    print("now", flush=True)
    time.sleep(0.3)
    return slow(*arguments)
{module}.{name} = wait
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [("bundles", "encoded"), ("summaries", "summary")],
    ids=["tables", "summaries"],
)
def test_ctrl_c_while_the_last_tables_are_written_ends_with_130_and_the_next_run_finishes(
    compared, tmp_path, module, name
):
    pair = [str(GOLDEN / "base"), str(GOLDEN / "tuned_a"), "--name", "a", "--cache", str(tmp_path)]
    code = SLOW.format(module=module, name=name)
    process = subprocess.Popen(
        [sys.executable, "-c", code, "compare", *pair],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # the first two tables are of the pairing, before anything is measured; of the last, some are
    # written by then
    for _ in range(6 if module == "bundles" else 2):
        assert process.stdout.readline() == "now\n"
    for _ in range(3):  # an impatient user
        process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "opdviz: interrupted; what was finished is kept."
    assert "Traceback" not in err
    assert opdviz("verify", cache=tmp_path).returncode == 0
    assert opdviz("compare", *pair, cache=tmp_path).returncode == 0
    whole = {p.name: p.read_bytes() for p in compared[0].rglob("tables/*.parquet")}
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("tables/*.parquet")} == whole
    names = {p.name for p in compared[0].rglob("summaries/*.parquet")}
    assert {p.name for p in tmp_path.rglob("summaries/*.parquet")} == names
    assert not list(tmp_path.rglob("*.tmp"))
