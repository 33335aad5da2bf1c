"""Healthy runs of twelve architectures, their tensors named and shaped as transformers saves them:
no rule finds anything but what is true of them.
"""

import pytest
import torch

from tests.doctor.test_rules import doctor_says

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
}
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 16, "num_local_experts": 4}
LATENT = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "kv_lora_rank": 8}
LATENT |= {"q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
ARCHITECTURES = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL | {"head_dim": 8},
    "mistral": SMALL | {"head_dim": 8},
    "gemma3_text": SMALL | {"head_dim": 8},
    "qwen3_moe": SMALL | EXPERTS | {"head_dim": 8},
    "mixtral": SMALL | EXPERTS,
    "deepseek_v3": SMALL | LATENT | {"moe_intermediate_size": 16, "first_k_dense_replace": 1},
    "phi3": SMALL | {"pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 96, "n_positions": 64},
    "gpt_neox": SMALL,
    "bert": SMALL,
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "vocab_size": 96},
    "vit": SMALL | {"image_size": 32, "patch_size": 8},
}
ROUTED = {"qwen3_moe", "mixtral", "deepseek_v3"}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_healthy_run_of_an_architecture_trips_no_rule(tmp_path, architecture):
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture])
    model = AutoModel.from_config(config).to((torch.float32, torch.bfloat16)[len(architecture) % 2])
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for weights in model.state_dict().values():
            # As Adam moves them: by steps of one size, whatever their own.
            weights += 1e-2 * torch.randn_like(weights)
    model.save_pretrained(tmp_path / "tuned")
    findings = {f.rule: f for f in doctor_says(tmp_path, tmp_path / "base", tmp_path / "tuned")}
    assert set(findings) == ({"router"} if architecture in ROUTED else set()), findings
