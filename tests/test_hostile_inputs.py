"""One table of hostile and damaged inputs. Every row goes through `check`, `compare` and the page's
field: what can be used is used, what cannot is refused in one line; nothing hangs, nothing takes
the machine's memory, nothing ends in a traceback.

A row is: how it is made, the exit code, and words that have to be said - in a refusal, or in what
`check` prints.
"""

import json
import os
import re
import subprocess
import sys
import time
import warnings
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from opdviz import cli, pairing, roots
from opdviz.checkpoint import torch_file
from opdviz.engine import workers
from opdviz.errors import RequestError
from tests import hostile as h

SECONDS, BYTES = 10, 1_000_000_000
REAL = 12  # every twelfth row asks the page's field in a process of its own, as the page does
LIST, OBJECT = b"[" * h.DEEP + b"]" * h.DEEP, b'{"a":' * h.DEEP + b"1" + b"}" * h.DEEP
MANY = b"[" + b"[]," * 12_000_000 + b"[]]"
LONG = "1" * 10_000
UNUSED, WORDLESS = "config.json is not used: found ", "tokenizer.json is not used: found "

NEIGHBOURS = {
    "config nested lists": (h.beside("config.json", LIST), 0, UNUSED + "JSON that is nested too deep"),
    "config nested objects": (h.beside("config.json", OBJECT), 0, UNUSED + "JSON that is nested too deep"),
    "config empty": (h.beside("config.json", b""), 0, UNUSED + "text that is not JSON"),
    "config garbage": (h.beside("config.json", b"\x00\xff garbage"), 0, UNUSED + "text that is not JSON"),
    "config cut short": (h.beside("config.json", b'{"hidden_size": '), 0, UNUSED + "text that is not JSON"),
    "config in utf-16": (h.beside("config.json", '{"hidden_size": 16}'.encode("utf-16")), 0, ""),
    "config a list": (h.beside("config.json", b"[1]"), 0, UNUSED + "a list instead of an object"),
    "config null": (h.beside("config.json", b"null"), 0, UNUSED + "a NoneType instead"),
    "config of 10,000 digits": (h.beside("config.json", f'{{"a": {LONG}}}'), 0, UNUSED + "text that is not JSON"),
    "config of 30 digits": (h.config(10**30, num_attention_heads=4), 0, ""),
    "config of 30 digits of heads": (h.config(16, num_attention_heads=10**30), 0, ""),
    "config 1e999": (h.beside("config.json", b'{"hidden_size": 1e999, "num_attention_heads": 4}'), 0, ""),
    "config NaN": (h.beside("config.json", b'{"hidden_size": 16, "num_attention_heads": NaN}'), 0, ""),
    "text_config null": (h.config({"text_config": None, "hidden_size": 16, "num_attention_heads": 4}), 0, ""),
    "text_config a list": (h.config({"text_config": [1], "hidden_size": 16, "num_attention_heads": 4}), 0, ""),
    "text_config a text": (h.config({"text_config": "x"}), 0, ""),
    "heads negative": (h.config(16, num_attention_heads=-4), 0, ""),
    "heads a text": (h.config(16, num_attention_heads="4"), 0, ""),
    "heads true": (h.config(16, num_attention_heads=True), 0, ""),
    "heads none at all": (h.config(16, num_attention_heads=0), 0, ""),
    "heads a thousand million": (h.config(10**9, num_attention_heads=10**9), 0, ""),
    "heads wider than all": (h.config(16, num_attention_heads=64), 0, ""),
    "heads of minus one": (h.config(16, num_attention_heads=4, head_dim=-1), 0, ""),
    "heads of true": (h.config(16, num_attention_heads=4, head_dim=True), 0, ""),
    "heads of a text": (h.config(16, num_attention_heads=4, head_dim="4"), 0, ""),
    "key heads a list": (h.config(16, num_attention_heads=4, num_key_value_heads=[2]), 0, ""),
    "key heads null": (h.config(16, num_attention_heads=4, num_key_value_heads=None), 0, ""),
    "tied by a list": (h.config({"tie_word_embeddings": [[]]}), 0, ""),
    "config of surrogates": (h.config({"\ud800": "\udfff", "text_config": {"\ud800": 1}}), 0, ""),
    "config a folder": (h.beside_as("config.json", "folder"), 0, UNUSED + "a folder or device"),
    "config a pipe": (h.beside_as("config.json", "pipe"), 0, UNUSED + "a folder or device"),
    "config a device": (h.beside_as("config.json", "device"), 0, UNUSED + "a folder or device"),
    "config a link to itself": (h.beside_as("config.json", "circle"), 0, UNUSED + "too many levels"),
    "config a link to nothing": (h.beside_as("config.json", "nothing"), 0, ""),
    "config too large": (h.beside_as("config.json", "large"), 0, UNUSED + "more than 64,000,000 bytes"),
    "config of too many values": (h.beside("config.json", MANY), 0, UNUSED + "JSON of too many values"),
    "tokens nested": (h.beside("tokenizer.json", LIST), 0, WORDLESS + "JSON that is nested too deep"),
    "tokens of surrogates": (h.beside("tokenizer.json", b'{"model": {"vocab": {"\\ud800x": 1, "b": 2}}}'), 0, ""),
    "tokens at 1e999": (h.beside("tokenizer.json", b'{"model": {"vocab": {"a": 1e999}}}'), 0, WORDLESS + "rows that are"),
    "tokens at NaN": (h.beside("tokenizer.json", b'{"model": {"vocab": {"a": NaN}}}'), 0, WORDLESS + "rows that are"),
    "tokens at minus one": (h.beside("tokenizer.json", b'{"model": {"vocab": {"a": -1}}}'), 0, WORDLESS + "rows that are"),
    "tokens at a text": (h.beside("tokenizer.json", b'{"model": {"vocab": {"a": "1"}}}'), 0, WORDLESS + "rows that are"),
    "tokens at true": (h.beside("tokenizer.json", b'{"model": {"vocab": {"a": true}}}'), 0, WORDLESS + "rows that are"),
    "tokens at 30 digits": (h.beside("tokenizer.json", b'{"model": {"vocab": {"a": 1' + b"0" * 30 + b"}}}"), 0, ""),
    "tokens at 10,000 digits": (h.beside("tokenizer.json", f'{{"model": {{"vocab": {{"a": {LONG}}}}}}}'), 0, WORDLESS),
    "tokens a list of numbers": (h.beside("tokenizer.json", b'{"model": {"vocab": [1, 2]}}'), 0, WORDLESS + "no vocabulary"),
    "tokens a list of nothing": (h.beside("tokenizer.json", b'{"model": {"vocab": [[], []]}}'), 0, WORDLESS + "no vocabulary"),
    "tokens a list with scores": (h.beside("tokenizer.json", b'{"model": {"vocab": [["a", 1], [["b"], 2]]}}'), 0, ""),
    "tokens of no model": (h.beside("tokenizer.json", b'{"model": null}'), 0, WORDLESS + "no vocabulary"),
    "tokens of a text": (h.beside("tokenizer.json", b'{"model": {"vocab": "ab"}}'), 0, ""),
    "tokens of no vocabulary": (h.beside("tokenizer.json", b"[]"), 0, WORDLESS + "no vocabulary"),
    "tokens of a megabyte": (h.beside("tokenizer.json", json.dumps({"model": {"vocab": {"x" * 10**6: 1}}})), 0, ""),
    "tokens a folder": (h.beside_as("tokenizer.json", "folder"), 0, WORDLESS + "a folder or device"),
    "tokens a pipe": (h.beside_as("tokenizer.json", "pipe"), 0, WORDLESS + "a folder or device"),
    "tokens too large": (h.beside_as("tokenizer.json", "large"), 0, WORDLESS + "more than 64,000,000 bytes"),
    "words that are no text": (h.beside("vocab.txt", b"\xff\xfe\n\xed\xa0\x80"), 0, "vocab.txt is not used: found bytes"),
    "words a folder": (h.beside_as("vocab.txt", "folder"), 0, "vocab.txt is not used: found a folder or device"),
    "words a pipe": (h.beside_as("vocab.txt", "pipe"), 0, "vocab.txt is not used: found a folder or device"),
    "words without end": (h.beside("vocab.txt", b"\n" * 4_000_001), 0, "vocab.txt is not used: found more than 4,000,000"),
    "words and controls": (h.beside("vocab.txt", b"\x1b[31m\n\x00\n<b>\n"), 0, ""),
}  # fmt: skip
INDEXES = {
    "index nested": (h.index(LIST), 2, "found JSON that is nested too deep; expected a JSON index"),
    "index nested in its map": (h.index(b'{"weight_map": ' + OBJECT + b"}"), 2, "nested too deep"),
    "index empty": (h.index(b""), 2, "found text that is not JSON; expected a JSON index"),
    "index of 10,000 digits": (h.index(f'{{"weight_map": {{"w": {LONG}}}}}'), 2, "text that is not JSON"),
    "index of numbers": (h.index(b'{"weight_map": {"w": 1}}'), 2, "found the shard 1"),
    "index of 1e999": (h.index(b'{"weight_map": {"w": 1e999}}'), 2, "found the shard inf"),
    "index of lists": (h.index(b'{"weight_map": {"w": []}}'), 2, "no weight_map"),
    "index of both": (h.index(b'{"weight_map": {"w": 1, "v": "a"}}'), 2, "no weight_map"),
    "index a list": (h.index(b"[1]"), 2, "no weight_map"),
    "index map null": (h.index(b'{"weight_map": null}'), 2, "no weight_map"),
    "index map a list": (h.index(b'{"weight_map": ["w"]}'), 2, "no weight_map"),
    "index of nothing": (h.index(b'{"weight_map": {}}'), 2, "without a shard"),
    "index a folder": (h.beside_as("model.safetensors.index.json", "folder"), 2, "found a folder or device"),
    "index a pipe": (h.beside_as("model.safetensors.index.json", "pipe"), 2, "found a folder or device"),
    "index a device": (h.beside_as("model.safetensors.index.json", "device"), 2, "found a folder or device"),
    "index a link to nothing": (h.beside_as("model.safetensors.index.json", "nothing"), 2, "a link to nothing"),
    "index a link to itself": (h.beside_as("model.safetensors.index.json", "circle"), 2, "too many levels"),
    "index too large": (h.beside_as("model.safetensors.index.json", "large"), 2, "more than 64,000,000 bytes"),
    "index of too many values": (h.index(MANY), 2, "too many values"),
    "shard a surrogate": (h.shard("\ud800"), 2, "is missing"),
    "shard with a NUL": (h.shard("a\0b"), 2, "is missing"),
    "shard of 5,000 letters": (h.shard("x" * 5000), 2, "is missing"),
    "shard above": (h.shard("../../etc/passwd"), 2, "file beside it"),
    "shard absolute": (h.shard("/etc/passwd"), 2, "file beside it"),
    "shard without a name": (h.shard(""), 2, "found a folder or device"),
    "shard is the folder": (h.shard("."), 2, "found a folder or device"),
    "shard is the index": (h.shard("model.safetensors.index.json"), 2, "found a '.json' file"),
    "shard's names are lies": (h.shard("model.safetensors"), 0, "1 files named by model.safetensors.index.json"),
    "index of a bin is damaged": (h.index(b"{", "pytorch_model.bin.index.json"), 0, "Chosen: model.safetensors"),
}  # fmt: skip
HEADERS = {
    "header of no bytes": (h.write("model.safetensors", b""), 2, "an empty file"),
    "header of four bytes": (h.write("model.safetensors", b"1234"), 2, "4 bytes long"),
    "header longer than its file": (h.raw(b"{}", length=10**12), 2, "a header of 1,000,000,000,000 bytes"),
    "header of 2^64 bytes": (h.write("model.safetensors", b"\xff" * 64), 2, "a header of 18,446,744"),
    "header nested": (h.raw(LIST), 2, "nested too deep in its header"),
    "header nested in an entry": (h.raw(b'{"w": ' + OBJECT + b"}"), 2, "nested too deep in its header"),
    "header of 10,000 digits": (h.raw(f'{{"w": {LONG}}}'.encode()), 2, "not JSON in its header"),
    "header of too many values": (h.raw(MANY), 2, "too many values in its header"),
    "header that is no text": (h.raw(b'{"\xff": 1}'), 2, "not JSON in its header"),
    "header a text": (h.raw(b'"w"'), 2, "a header that is a str"),
    "header of no tensor": (h.raw({}), 2, "found no tensor"),
    "header of metadata alone": (h.raw({"__metadata__": {}}), 2, "found no tensor"),
    "metadata a list": (h.raw({"__metadata__": [1]}), 2, "__metadata__ that is a list"),
    "entry null": (h.raw({"w": None}), 2, "without dtype, shape and data_offsets"),
    "entry a list": (h.raw({"w": [1]}), 2, "without dtype, shape and data_offsets"),
    "dtype null": (h.one(dtype=None), 2, "of type None"),
    "dtype unknown": (h.one(dtype="F4"), 2, "of type F4"),
    "shape true": (h.one([True]), 2, "whole numbers"),
    "shape of parts": (h.one([1.5]), 2, "whole numbers"),
    "shape 1e999": (h.raw(b'{"w": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}', b"1234"), 2, "whole numbers"),
    "shape a text": (h.one("1"), 2, "whole numbers"),
    "shape negative": (h.one([-1]), 2, "whole numbers"),
    "shape of 30 digits": (h.one([10**30]), 2, r"1\.0e\+30"),
    "shape of 4,000 digits": (h.one([10**4000]), 2, r"10\^300 and more"),
    "shape of 101 axes": (h.one([1] * 101), 2, "101 axes"),
    "shape of 2^62 by nothing": (h.one([2**62, 0], [0, 0], data=b""), 2, "at most 16 axes"),
    "shape of 2^40 by nothing": (h.raw({h.EMBEDDING: h.entry([2**40, 0], [0, 0])}), 2, "of no elements with an axis"),
    "offsets backwards": (h.one([1], [4, 0]), 2, "4 bytes inside the file"),
    "offsets of 4,000 digits": (h.one([1], [10**4000, 10**4000 + 4]), 2, r"10\^300 and more"),
    "offsets of one": (h.one([1], [0]), 2, "without dtype, shape and data_offsets"),
    "offsets past the end": (h.one([4], [0, 16]), 2, "is it truncated"),
    "a hole before the data": (h.one([1], [4, 8], data=b"12345678"), 2, "it to begin at"),
    "two tensors in one place": (h.raw({"a": h.entry(), "b": h.entry()}, b"1234"), 2, "it to begin at"),
    "a name twice": (h.raw(b'{"w": {}, "w": {}}'), 2, "w twice in its header"),
    "a name twice among many": (h.raw(b"{" + b",".join(b'"%d":1' % i for i in [*range(300_000), 299_999]) + b"}"), 2,
                                "299999 twice in its header"),
    "two files with one name": (lambda p: [(p / f"model-{n}.safetensors").write_bytes(h.float32(2)) for n in "12"] and None, 2,
                                "tensor w is in two files"),
    "GGUF": (h.write("model.safetensors", b"GGUF" + b"0" * 40), 2, "found GGUF"),
    "weights a folder": (h.instead("model.safetensors", "folder"), 2, "found a folder or device"),
    "weights a pipe": (h.instead("model.safetensors", "pipe"), 2, "found a folder or device"),
    "weights a device": (h.instead("model.safetensors", "device"), 2, "found a folder or device"),
    "weights a link to itself": (h.instead("model.safetensors", "circle"), 2, "found a folder or device"),
    "weights a link to nothing": (h.instead("model.safetensors", "nothing"), 2, "found a folder or device"),
    "an empty folder": (lambda p: None, 2, "an empty folder"),
    "nothing in common": (lambda p: (p / "model.safetensors").write_bytes(h.framed({p.name: h.entry()}, b"1234")) and None, 2,
                          "no tensor in common"),
}  # fmt: skip
NAMES = {
    "layer of a superscript": (h.named("model.layers.².mlp.up_proj.weight", "model.layers.3²"), 0, "2 pairs"),
    "layer of Arabic digits": (h.named("model.layers.٣.mlp.up_proj.weight"), 0, "1 pairs"),
    "layer of 23 digits": (h.named(f"model.layers.{10**22}.mlp.up_proj.weight"), 0, "1 pairs"),
    "layer of 6,000 digits": (h.named(f"model.layers.{'7' * 6000}.mlp.up_proj.weight"), 0, "1 pairs"),
    "expert of a superscript": (h.named("model.layers.1.mlp.experts.².up_proj.weight", "experts[²]"), 0, "2 pairs"),
    "expert of 6,000 digits": (h.named(f"layers.1.experts.{'7' * 6000}.up_proj.weight", f"e[{'7' * 6000}]"), 0, "2 pairs"),
    "a name of 11,000 letters": (h.named("x" * 11_000), 2, "a name that is text of up to 10,000 letters"),
    "a name of 9,000 letters": (h.named("x" * 9_000), 0, "1 pairs"),
    "a name of 5,000 prefixes": (h.named("model." * 1600 + "w"), 0, "1 pairs"),
    "a name of dots": (h.named("." * 5000, "..", "layers.", "layers.1", "experts", "layers.1.experts"), 0, "6 pairs"),
    "a lone surrogate": (h.named("w\ud800"), 2, "a name that is text"),
    "a surrogate and more": (h.named("w\ud800\U0001f600"), 2, "a name that is text"),
    "no name": (h.named(""), 2, "a name that is text"),
    "a name of a line end": (h.named("\n"), 2, "a name that is text"),
    "a name on two lines": (h.named("a\nb", "layers.1.experts.w[3]\n"), 0, "2 pairs"),
    "a name with a NUL": (h.named("a\0b", "../../x", "/etc/passwd"), 0, "3 pairs"),
    "a name of escapes": (h.named("\x1b[31mred", "\u202eabc", "<script>alert(1)</script>"), 0, "3 pairs"),
    "names that only wrap": (h.named("module", "module.module", "_orig_mod"), 0, "3 pairs"),
    "ten million experts of nothing": (h.stack(10**7, 0, 4), 2, "of no elements with an axis of 10,000,000"),
    "ten million experts of a row of nothing": (h.stack(10**7, 1, 0), 2, "of no elements with an axis of 10,000,000"),
    "a million experts of nothing": (h.stack(10**6, 0, 4), 0, "2 pairs"),
    "no experts": (h.stack(0, 4, 4), 0, "2 pairs"),
    "two million experts": (h.raw({"experts.w": h.entry([2 * 10**6, 1, 1], [0, 2 * 10**6], "U8")}, bytes(2 * 10**6)), 2,
                            "found more than 1,000,000 pairs"),
}  # fmt: skip
VALUES = {
    "float64 near the largest": (h.doubles(1.7e308, -1.7e308), 0, "3 pairs"),
    "float64 whose squares are none": (h.doubles(1e-160, 0.9e-160), 0, "3 pairs"),
    "float64 of the least": (h.doubles(5e-324, 1e-323), 0, "3 pairs"),
    "float64 from tiny to huge": (h.doubles(1e-300, 1e300), 0, "3 pairs"),
    "float64 from huge to tiny": (h.doubles(1e300, 1e-300), 0, "3 pairs"),
    "float64 of infinities": (h.doubles(float("inf"), 1.0), 0, "3 pairs"),
    "float64 of NaN": (h.doubles(float("nan")), 0, "3 pairs"),
    "float64 of zeros": (h.doubles(0.0, 1.0), 0, "3 pairs"),
    "scale of no elements": (h.scaled(torch.zeros(0)), 0, "scale tensor 0 does not fit"),
    "scale of no columns": (h.scaled(torch.zeros(8, 0)), 0, "scale tensor 8x0 does not fit"),
    "scale of three axes": (h.scaled(torch.ones(8, 4, 2)), 0, "scale tensor 8x4x2 does not fit"),
    "scale longer than its codes": (h.scaled(torch.ones(9, 1)), 0, "scale tensor 9x1 does not fit"),
    "scale of integers": (h.scaled(torch.ones(8, dtype=torch.int32)), 0, "scale tensor 8 does not fit"),
    "scale of float8": (h.scaled(torch.ones(8).to(torch.float8_e4m3fn)), 0, "scale tensor 8 does not fit"),
    "scale of one number in nine axes": (h.scaled(torch.ones((1,) * 9)), 0, ""),
    "scale of NaN": (h.scaled(torch.tensor(float("nan"))), 0, ""),
    "scale beyond float32": (h.scaled(torch.tensor(1e300, dtype=torch.float64)), 0, ""),
    "scale of zero": (h.scaled(torch.tensor(0.0)), 0, ""),
    "scale of codes of nothing": (h.scaled(torch.ones(1), shape=(0, 4), dtype=torch.float8_e5m2), 0, ""),
    "codes without a scale": (h.tensors(codes=torch.ones(2, 2).to(torch.float8_e5m2)), 0, "float8 without a scale tensor"),
    "matrices of nothing": (h.tensors(a=torch.zeros(0, 4), b=torch.zeros(4, 0), d=torch.zeros(2, 0, 3)), 0, "5 pairs"),
    "an embedding of nothing": (h.tensors(**{"shared.weight": torch.zeros(5, 0), "wte.weight": torch.zeros(0, 5)}), 0, "4 pairs"),
    "one number": (h.tensors(a=torch.tensor(1.0), b=torch.ones(1, 1), c=torch.ones(1, 1, 1, 1)), 0, "5 pairs"),
    "integers at their ends": (h.tensors(a=torch.tensor([-(2**63), 2**63 - 1])), 0, "3 pairs"),
    "float16 of infinities": (h.tensors(a=torch.full((4, 4), float("inf"), dtype=torch.float16)), 0, "3 pairs"),
    "types that differ": (lambda p: h.good(p, a=torch.ones(4, 4).to(torch.int32 if p.name == "base" else torch.half)) and None, 0,
                          "int32 -> float16"),
    "axes that differ": (lambda p: h.good(p, a=torch.ones(*[2] * (2 + (p.name == "base")))) and None, 0, "shapes differ"),
}  # fmt: skip
PICKLES = {
    "garbage": (h.write("pytorch_model.bin", b"garbage!" * 10), 2, "no readable PyTorch file"),
    "nothing": (h.write("pytorch_model.bin", b""), 2, "an empty file"),
    "a pickle of one byte": (h.write("pytorch_model.bin", b"\x80"), 2, "no readable PyTorch file"),
    "code": (h.saved(lambda: {"w": h.Call(os.mkdir, "/tmp/owned")}), 2, "asks to run code"),
    "code in the old format": (h.saved(lambda: {"w": h.Call(os.mkdir, "/tmp/owned")}, old=True), 2, "asks to run code"),
    "3 GB in a word": (h.saved(lambda: {"w": h.Call(bytearray, 3 * 10**9)}), 2, "far more memory than its file"),
    "3 GB in a word, old": (h.saved(lambda: {"w": h.Call(bytearray, 3 * 10**9)}, old=True), 2, "far more memory than its file"),
    "a packed pickle": (h.zipped(h.with_zeros(150_000_000), packed="data.pkl"), 2, "a pickle of 150,000,"),
    "a packed record": (h.zipped(lambda r: r | {"archive/x": bytes(150_000_000)}, packed="/x"), 2, "a packed record of 150"),
    "packed weights": (h.zipped(h.unchanged, packed="data/0"), 2, "packed weights, which torch.save never writes"),
    "a small packed pickle": (h.zipped(h.unchanged, packed="data.pkl"), 0, "1 pairs"),
    "a packed pickle that lies": (h.zipped(h.with_zeros(10**7), packed="data.pkl", then=h.sizes(b"data.pkl", 500)), 0, "1 pairs"),
    "a record that lies": (h.zipped(h.unchanged, then=h.sizes(b"byteorder", 2**31)), 2, "in a file of"),
    "weights that lie": (h.zipped(h.unchanged, then=h.sizes(b"data/0", 2**32 - 1)), 2, "found"),
    "a directory elsewhere": (h.zipped(h.unchanged, then=h.longer), 2, "directory is not where it says"),
    "no directory": (h.zipped(h.unchanged, then=lambda data: data[:-30]), 2, "a zip without a directory"),
    "half a zip": (h.zipped(h.unchanged, then=lambda data: data[: len(data) // 2]), 2, "a zip without a directory"),
    "a zip of nothing": (h.zipped(lambda r: {}), 2, "no readable PyTorch file"),
    "a zip of a text": (h.zipped(lambda r: {"readme.txt": b"x"}), 2, "no readable PyTorch file"),
    "a zip without weights": (h.zipped(lambda r: {n: d for n, d in r.items() if "data/0" not in n}), 2, "no readable"),
    "a zip with short weights": (h.zipped(lambda r: {n: d[:8] if n.endswith("data/0") else d for n, d in r.items()}), 2,
                                 "weights of fewer bytes than their tensors take"),
    "no tensors": (h.saved({"a": 1}), 2, "a dict without tensors"),
    "a list": (h.saved([torch.zeros(2)]), 2, "a list without tensors"),
    "a tensor alone": (h.saved(torch.zeros(2)), 2, "a Tensor without tensors"),
    "tensors and numbers": (h.saved({"w": torch.ones(2), 7: torch.ones(2), "step": 3}), 0, "entry step is no tensor"),
    "a thousand numbers": (h.saved({"w": torch.ones(2)} | {f"n{i}": i for i in range(1000)}), 0, "980 more entries"),
    "meta": (h.saved({"w": torch.zeros(2, 3, device="meta")}), 2, "tensor w of no data"),
    "nested": (h.saved(h.nested), 2, "tensor w of nested tensors"),
    "sparse": (h.saved({"w": torch.eye(3).to_sparse()}), 2, "tensor w of torch.sparse_coo"),
    "quantised": (h.saved(lambda: {"w": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)}), 2, "torch.qint8"),
    "complex": (h.saved({"w": torch.zeros(2, dtype=torch.complex64)}), 2, "tensor w of torch.complex64"),
    "expanded": (h.saved({"w": torch.zeros(1).expand(10**6, 10**6)}), 2, "1,000,000,000,000 elements that are 1 in the file"),
    "expanded in the old format": (h.saved({"w": torch.zeros(1).expand(10**6, 10**6)}, old=True), 2, "that are 1 in the file"),
    "larger than its storage": (h.saved(lambda: h.rebuilt((10**6,), (1,))), 2, "no readable PyTorch file"),
    "far off in its storage": (h.saved(lambda: h.rebuilt((2,), (1,), 2**40)), 2, "no readable PyTorch file"),
    "of negative strides": (h.saved(lambda: h.rebuilt((2,), (-1,))), 2, "no readable PyTorch file"),
    "of 2^62 by nothing": (h.saved({"w": torch.zeros(4).as_strided((2**62, 0), (0, 1))}), 2, "of no elements with an axis"),
    "turned and cut": (h.saved({"w": torch.arange(12.0).reshape(3, 4).T[1:]}), 0, "1 pairs"),
    "negated": (h.saved(lambda: {"w": torch._neg_view(torch.ones(4))}), 0, "1 pairs"),
    "parameters": (h.saved({"w": torch.nn.Parameter(torch.ones(4, 4))}), 0, "1 pairs"),
    "a surrogate for a name": (h.saved({"w\ud800": torch.zeros(2)}, old=True), 2, "a tensor named"),
    "a line end for a name": (h.saved({"\n": torch.zeros(2)}), 2, "a tensor named"),
    "a hundred storages of one": (h.saved(lambda: dict.fromkeys(map(str, range(300)), torch.ones(2))), 0, "... and 398 more"),
}  # fmt: skip
PICKLES = {f"pickle: {name}": row for name, row in PICKLES.items()}
PATHS = {
    "nobody's home": (lambda p: "~nobody-of-that-name/x", 2, "no such user|no usable path"),
    "a path of 5,000 letters": (lambda p: str(p / ("x" * 5000)), 2, "nothing there|no usable path"),
    "a path of 2,000 folders": (lambda p: str(p) + "/x" * 4000, 2, "nothing there|no usable path"),
    "a path with a NUL": (lambda p: f"{p}/a\0b", 2, "nothing there|no usable path"),
    "a path of a surrogate": (lambda p: f"{p}/\ud800", 2, "nothing there|no usable path|no command can be given"),
    "a link to itself": (lambda p: (h.no_file(p / "x", "circle"), str(p / "x"))[1], 2, "nothing there|no usable path"),
    "a link to nothing": (lambda p: (h.no_file(p / "x", "nothing"), str(p / "x"))[1], 2, "nothing there"),
    "a pipe": (lambda p: (h.no_file(p / "x.bin", "pipe"), str(p / "x.bin"))[1], 2, "found a folder or device"),
    "below a file": (lambda p: (h.good(p), str(p / "model.safetensors" / "x"))[1], 2, "nothing there"),
    "bytes that are no text": (lambda p: folder_of(p, os.fsdecode(b"caf\xe9")), 0, "2 pairs"),
    "a folder on two lines": (lambda p: folder_of(p, "two\nlines"), 0, "2 pairs"),
    "a folder of spaces": (lambda p: folder_of(p, "   "), 0, "2 pairs"),
    "a folder like an option": (lambda p: folder_of(p, "--json"), 0, "2 pairs"),
    "a folder of escapes": (lambda p: folder_of(p, "\x1b[31m<b>"), 0, "2 pairs"),
    "a folder of 255 letters": (lambda p: folder_of(p, "x" * 255), 0, "2 pairs"),
    "a file of 250 letters": (lambda p: file_of(p, "x" * 238 + ".safetensors"), 0, "2 pairs"),
    "a file of another kind": (lambda p: file_of(p, "model.txt"), 2, "found a '.txt' file"),
}  # fmt: skip
TABLE = NEIGHBOURS | INDEXES | HEADERS | NAMES | VALUES | PICKLES | PATHS
HEAVY = (
    "config of too many values", "index nested", "header of too many values", "a million experts of nothing",
    "two million experts", "pickle: 3 GB in a word", "pickle: a packed pickle", "pickle: a packed record",
)  # fmt: skip


def folder_of(folder: Path, name: str) -> str:
    """A good checkpoint in a folder of some name."""
    (folder / name).mkdir()
    h.good(folder / name)
    if folder.name == "tuned":
        (folder / name / "model.safetensors").unlink()
        (folder / name / "tuned").mkdir()
        h.good(folder / name / "tuned")
        return str(folder / name / "tuned")
    return str(folder / name)


def file_of(folder: Path, name: str) -> str:
    """A good checkpoint in a file of some name."""
    h.good(folder)
    (folder / "model.safetensors").rename(folder / name)
    return str(folder / name)


# The engine's types speak of floats alone.
INTEGERS = ("scale of integers", "integers at their ends", "types that differ")


class Here(Executor):
    """Runs what it is given at once, in this process: the table is about inputs, and processes cost
    a second a row.
    """

    def submit(self, function, *arguments):
        """A future that is done."""
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


@contextmanager
def in_this_process(count: int):
    """A pool without a process."""
    yield Here()


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """A builder of both sides of a row below the page's root; every command runs here and never
    ends the process.
    """

    monkeypatch.setattr(cli, "leave", lambda code: code)
    monkeypatch.setenv("OPDVIZ_ROOTS", str(tmp_path))
    monkeypatch.setenv("OPDVIZ_CACHE", str(tmp_path / "cache"))

    def build(make) -> list[str]:
        paths = []
        for side in ("base", "tuned"):
            (tmp_path / side).mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a prototype that torch has had for years
                named = make(tmp_path / side)
            paths.append(named if isinstance(named, str) else str(tmp_path / side))
        return paths

    yield build
    pairing.opened.cache_clear()
    torch_file.state_dict.cache_clear()


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """A command in this process: its exit code, and what it printed."""
    capsys.readouterr()
    began = time.process_time()
    with warnings.catch_warnings():
        # Of sums beyond float64, which come out as missing values.
        warnings.simplefilter("ignore", RuntimeWarning)
        code = cli.main(list(arguments))
    assert time.process_time() - began < SECONDS
    return code, *capsys.readouterr()


def assert_one_line(code: int, err: str, words: str) -> None:
    """Assert a refusal: exit 2, and one line with some words."""
    assert (code, err.count("\n"), err.startswith("opdviz: ")) == (2, 1, True), err
    assert re.search(words, err), err


@pytest.mark.parametrize("name", TABLE)
def test_a_hostile_input_is_used_or_refused_in_one_line(name, pair, capsys, monkeypatch):
    make, wanted, words = TABLE[name]
    if name not in INTEGERS:
        monkeypatch.setattr(workers, "pool", in_this_process)
    sides = pair(make)
    code, out, err = run(capsys, "check", "--", *sides)
    if wanted:
        assert_one_line(code, err, words)
        code, _, err = run(capsys, "compare", "--json", "--", *sides)
        assert_one_line(code, err, words)
    else:
        assert (code, err) == (0, "")
        assert words in out
        # weights that are good are measured in part: nothing beside them reaches what is made of
        # the whole
        part = name in NEIGHBOURS | PATHS | PICKLES or name.startswith("scale")
        few = ["--measures", "coordinates"] if part else []
        code, _, err = run(capsys, "compare", "--json", *few, "--", *sides)
        assert (code, err) == (0, "")
        assert run(capsys, "verify")[:2] == (0, "1 comparisons, no fault.\n")
    if list(TABLE).index(name) % REAL:
        monkeypatch.setattr(roots, "output_of_command", lambda *given: told_here(capsys, *given))
    field(sides, wanted, words)


def told_here(capsys, *arguments: str) -> str:
    """What `roots.output_of_command` gives, without a process of its own."""
    code, out, err = run(capsys, *arguments)
    if code:
        raise RequestError(err.strip().removeprefix("opdviz: "))
    return out


def field(sides: list[str], wanted: int, words: str) -> None:
    """Assert what the page's field says of two paths: facts, or one line."""
    if not wanted:
        assert roots.check(*map(roots.allowed, sides))[0]["pairs"]
        return
    with pytest.raises(RequestError, match=words) as refused:
        roots.check(*map(roots.allowed, sides))
    assert "\n" not in str(refused.value)


def test_a_header_of_many_names_is_matched_and_printed_in_little_time(pair, capsys):
    """60,000 tensors with names that have nothing in common, the worst there is: a million take as
    long each.
    """

    def build(folder: Path) -> None:
        names = [f"{folder.name}.{i}.{'x' * (i % 30)}" for i in range(59_999)] + ["lm_head.weight"]
        entries = {name: h.entry([1], [i, i + 1], "U8") for i, name in enumerate(names)}
        (folder / "model.safetensors").write_bytes(h.framed(entries, bytes(60_000)))

    sides = pair(build)
    began = time.process_time()
    code, out, _ = run(capsys, "check", *sides)
    assert code == 0 and "1 pairs" in out and out.count("\n") < 300
    assert time.process_time() - began < 2.5


def test_the_table_is_long_and_its_rows_are_made_anew():
    assert len(TABLE) >= 120
    assert set(HEAVY) <= set(TABLE)
    assert not Path("/tmp/owned").exists()


# A process counts among its own the memory of the one that it was forked from: a small one forks.
MEASURED = """
import json, os, resource, subprocess, sys
limit, *command = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps({
    "code": os.waitstatus_to_exitcode(status), "lines": process.stderr.read().count(b"\\n"),
    "bytes": 1024 * used.ru_maxrss, "seconds": used.ru_utime + used.ru_stime,
}))
"""


@pytest.mark.parametrize("name", HEAVY)
def test_what_would_fill_the_memory_stays_below_a_gigabyte(name, pair):
    make, wanted, _ = TABLE[name]
    check = [sys.executable, "-m", "opdviz", "check", "--", *pair(make)]
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED, str(3 * SECONDS), *check], capture_output=True, check=True
    )
    used = json.loads(answer.stdout)
    assert used["lines"] == (wanted > 0)
    assert used["code"] == wanted
    assert used["bytes"] < BYTES
    assert used["seconds"] < SECONDS and time.monotonic() - began < 6 * SECONDS
