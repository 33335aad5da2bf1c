"""Weights that are codes: recognised, refused in one line, never read as numbers."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from opdviz import checkpoint
from opdviz.errors import RequestError

Q = "model.layers.0.self_attn.q_proj"
EXPERTS = "model.layers.0.mlp.experts.gate_up_proj"
CODES, SCALES = torch.ones(4, 4, dtype=torch.int32), torch.ones(4, dtype=torch.float16)
BYTES = torch.ones(4, 4, dtype=torch.uint8)
# What beside a plain embedding makes a checkpoint one of each kind, by the names that its library
# writes.
KINDS = {
    "GPTQ": {
        f"{Q}.qweight": CODES,
        f"{Q}.qzeros": CODES,
        f"{Q}.scales": SCALES,
        f"{Q}.g_idx": CODES[0],
    },
    "AWQ": {f"{Q}.qweight": CODES, f"{Q}.qzeros": CODES, f"{Q}.scales": SCALES},
    "bitsandbytes in 4 bits": {
        f"{Q}.weight": BYTES,
        f"{Q}.weight.absmax": SCALES,
        f"{Q}.weight.quant_map": SCALES,
        f"{Q}.weight.quant_state.bitsandbytes__nf4": BYTES[0],
    },
    "bitsandbytes in 8 bits": {f"{Q}.weight": BYTES.to(torch.int8), f"{Q}.SCB": SCALES},
    "MXFP4": {f"{EXPERTS}_blocks": BYTES, f"{EXPERTS}_scales": BYTES[0]},
    "packed compressed-tensors": {f"{Q}.weight_packed": CODES, f"{Q}.weight_scale": SCALES},
    "HQQ": {f"{Q}.W_q": BYTES, f"{Q}.scale": SCALES},
    "AQLM": {f"{Q}.codes": CODES.to(torch.int16), f"{Q}.codebooks": SCALES},
}


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_refused_with_what_to_name_instead(tmp_path, kind, ending):
    tensors = {"model.embed_tokens.weight": torch.ones(3, 4)} | KINDS[kind]
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    if ending == "bin":
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RequestError) as refusal:
        checkpoint.open(tmp_path)
    text = str(refusal.value)
    assert f"found {kind}: model.layers.0." in text and "\n" not in text
    assert "expected the weights themselves. Name the model that it was made from" in text


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "F6_E2M3"])
def test_number_types_of_mx_formats_are_refused(tmp_path, dtype):
    header = json.dumps({"w": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    with pytest.raises(RequestError, match=f"of type {dtype}, codes of an MX format; expected the"):
        checkpoint.open(tmp_path)


def test_integers_beside_weights_are_no_codes(tmp_path):
    """Buffers of positions, and names that end as some scheme's do, alone."""
    tensors = {
        "model.embed_tokens.weight": torch.ones(3, 4),
        "embeddings.position_ids": torch.arange(4),
        "model.scales": torch.ones(4),
        "model.codes": torch.arange(3),
        "bn.num_batches_tracked": torch.tensor(7),
        "text_blocks": torch.ones(2),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert checkpoint.open(tmp_path).tensors.keys() == tensors.keys()


def test_float8_with_its_scale_is_read(tmp_path):
    tensors = {
        f"{Q}.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
        f"{Q}.weight_scale": torch.tensor([2.0]),
        "position_ids": torch.arange(4),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert (checkpoint.open(tmp_path).read(f"{Q}.weight") == 2.0).all()
