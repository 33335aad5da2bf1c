"""Tiny models of many architectures, and the names of tensors as transformers itself saves them."""

import tempfile
import warnings
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}
EXPERTS |= {
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
EXPERTS |= {"n_group": 1, "topk_group": 1, "n_shared_experts": 1, "decoder_sparse_step": 1}
MLA = {
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
MAMBA = {
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_ssm": 32,
    "mamba_n_groups": 1,
}
MAMBA |= {"mamba_dt_rank": 4, "mamba_chunk_size": 8, "state_size": 8, "num_heads": 4, "n_groups": 1}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
LINEAR |= {"linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "depth": 2}
VISION |= {
    "num_attention_heads": 2,
    "num_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "out_hidden_size": 16,
}
VISION |= {
    "deepstack_visual_indexes": [0],
    "fullatt_block_indexes": [1],
    "embed_dim": 16,
    "projection_dim": 16,
}
SPEECH = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
SPEECH |= {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_mel_bins": 8,
}
T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
}
# By model type: what its configuration needs beside SMALL.
PLAIN = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "olmo",
    "olmo2", "olmo3", "cohere", "cohere2", "granite", "glm", "glm4", "starcoder2", "stablelm",
    "smollm3", "exaone4", "nemotron", "ernie4_5", "seed_oss", "helium", "apertus", "gpt2",
    "gpt_neox", "gptj", "opt", "bloom", "gpt_bigcode", "bert", "roberta", "modernbert",
    "xlm-roberta", "distilbert", "electra", "deberta-v2",
)  # fmt: skip
SPECIAL = {
    "mixtral": EXPERTS, "qwen2_moe": EXPERTS, "qwen3_moe": EXPERTS, "olmoe": EXPERTS,
    "deepseek_v2": EXPERTS | MLA, "deepseek_v3": EXPERTS | MLA, "glm4_moe": EXPERTS,
    "gpt_oss": EXPERTS, "granitemoe": EXPERTS, "minimax": EXPERTS, "phimoe": EXPERTS,
    "mamba": MAMBA, "mamba2": MAMBA | {"head_dim": 8, "expand": 2}, "falcon_mamba": MAMBA,
    "jamba": EXPERTS | MAMBA | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_hidden_layers": 4},
    "bamba": MAMBA | {"attn_layer_indices": [1]}, "falcon_h1": MAMBA,
    "qwen3_next": EXPERTS | LINEAR, "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": 16},
    "lfm2": {"layer_types": ["conv", "full_attention"]}, "nemotron_h": MAMBA,
    "granitemoehybrid": EXPERTS | MAMBA | {"layer_types": ["mamba", "attention"]},
    "t5": T5, "mt5": T5, "umt5": T5, "bart": SPEECH, "mbart": SPEECH, "whisper": SPEECH,
    "pegasus": SPEECH, "m2m_100": SPEECH,
    "vit": VISION, "dinov2": VISION, "siglip_vision_model": VISION, "clip_vision_model": VISION,
}  # fmt: skip
COMPOSED = {
    "qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_5_vl", "qwen3_vl": "qwen3_vl", "llava": "llama",
    "paligemma": "gemma", "gemma3": "gemma3_text", "llava_next": "llama", "idefics3": "llama",
    "smolvlm": "llama", "internvl": "qwen2", "mistral3": "mistral", "clip": "", "siglip": "",
}  # fmt: skip


def config_of(kind: str):
    """A tiny configuration of an architecture."""
    if kind not in COMPOSED:
        return AutoConfig.for_model(kind, **SMALL | SPECIAL.get(kind, {}))
    parts = dict(CONFIG_MAPPING[kind]().sub_configs)
    sub = {}
    for name in parts:
        facts = VISION if "vision" in name else SMALL
        default = getattr(CONFIG_MAPPING[kind](), name).to_dict()
        wanted = {key: value for key, value in facts.items() if key in default or "text" in name}
        sub[name] = {"model_type": default["model_type"]} | wanted
    return CONFIG_MAPPING[kind](**sub)


def model_of(config):
    """A tiny model with the head of its usual task."""
    for mapping in (
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_MASKED_LM_MAPPING,
        auto.MODEL_MAPPING,
    ):
        if type(config) in mapping:
            chosen = mapping[type(config)]
            return (chosen[0] if isinstance(chosen, tuple) else chosen)(config)
    raise ValueError(f"no model for {type(config).__name__}")


def saved(kind: str, files: Path, memory: Path | None = None) -> None:
    """A tiny model, saved by transformers, and with the names that it has in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that no real model has
        model = model_of(config_of(kind))
        model.save_pretrained(files)
    if memory:
        memory.mkdir()
        state = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
        save_file(state, memory / "model.safetensors")


def names_of(kind: str) -> list[str]:
    """The names in the checkpoint that transformers saves of an architecture."""
    with tempfile.TemporaryDirectory() as folder:
        saved(kind, Path(folder))
        names = []
        for file in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(file, "np") as opened:
                names += list(opened.keys())
    return sorted(names)
