"""The place of a tensor in its model, read off its name alone.

Names are matched segment by segment (`a.b.c` has segments a, b, c), never by substring: `qkv_proj` is not `v_proj`,
`gate_up_proj` is not `up_proj`, and layer 3 of `visual.blocks.3` is not layer 3 of the language tower.
"""

import re
from dataclasses import dataclass

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
LAYER_LISTS = ("layers", "layer", "h", "blocks", "block")
VISUAL = {"visual", "vision_tower", "vision_model", "vit", "vision_encoder", "layernorm_before", "layernorm_after"}
CONTAINERS = ("self_attn", "attention", "attn", "mlp", "block_sparse_moe", "feed_forward", "ffn")
SHARED_LEAVES = {"c_proj", "dense", "proj", "query", "key", "value", "output", "self", "gate", "LayerNorm", "0", "2"}
EMBEDDING = {
    "embed_tokens", "word_embeddings", "position_embeddings", "token_type_embeddings", "wte", "wpe", "embed_in",
    "shared", "patch_embed", "patch_embeddings", "patch_embedding", "position_embedding", "pos_embed", "cls_token",
    "class_embedding", "mask_token", "tok_embeddings", "embeddings",
}  # fmt: skip
HEAD = {"lm_head", "embed_out", "classifier", "score", "cls", "predictions"}
ATTENTION = {
    "self_attn", "attention", "attn", "self_attention", "SelfAttention", "EncDecAttention", "cross_attn", "linear_attn",
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv", "qkv_proj", "c_attn", "query_key_value",
}  # fmt: skip
FFN = {
    "mlp", "experts", "shared_expert", "shared_experts", "block_sparse_moe", "feed_forward", "ffn", "DenseReluDense",
    "intermediate", "output", "fc1", "fc2", "c_fc", "gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3",
}  # fmt: skip
ROUTER = {"router", "gate", "e_score_correction_bias", "shared_expert_gate"}
NORM = re.compile(r"(^|_)(layer_?norm|norm|ln)(_|\d|$)|layernorm|^ln_|LayerNorm", re.IGNORECASE)
EXPERTS_SLICE = re.compile(r"^(?P<name>.*)\[(?P<expert>\d+)\]$")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands: layer number, block (closed set), module as spelled, tower (closed set), expert number."""

    layer: int | None
    block: str
    module: str
    tower: str
    expert: int | None


def parse(name: str) -> Place:
    """The place that a tensor's name states; an unknown name has block `other`.

    >>> parse("model.layers.3.self_attn.q_proj.weight")
    Place(layer=3, block='attention', module='q_proj', tower='language', expert=None)
    >>> parse("model.layers.1.mlp.experts.7.down_proj.weight")
    Place(layer=1, block='ffn', module='experts.down_proj', tower='language', expert=7)
    """
    expert = None
    if found := EXPERTS_SLICE.match(name):
        name, expert = found["name"], int(found["expert"])
    segments = [s for s in name.split(".") if s not in WRAPPERS] or [name]
    layer, tail = split_layer(segments)
    tail = tail or [segments[-1]]
    if "experts" in tail[:-1] and tail[tail.index("experts") + 1].isdigit():
        at = tail.index("experts") + 1
        expert, tail = int(tail[at]), tail[:at] + tail[at + 1 :]
    return Place(layer, block_of(tail, segments), module_of(tail, layer), tower_of(segments), expert)


def split_layer(segments: list[str]) -> tuple[int | None, list[str]]:
    """The first layer number and the segments after it; without one, `None` and all segments."""
    for at, (word, number) in enumerate(zip(segments, segments[1:])):
        if word in LAYER_LISTS and number.isdigit():
            return int(number), segments[at + 2 :]
    return None, segments


def tower_of(segments: list[str]) -> str:
    """The tower: visual by its own words, encoder and decoder where both could be (T5), language otherwise."""
    if VISUAL & set(segments) or {"patch_embed", "patch_embeddings"} & set(segments):
        return "visual"
    if any(a == b == "attention" for a, b in zip(segments, segments[1:])):  # ViT's attention.attention.query
        return "visual"
    for tower in ("encoder", "decoder"):
        if tower in segments[:2] and ("block" in segments or "final_layer_norm" in segments):
            return tower
    return "language"


def module_of(tail: list[str], layer: int | None) -> str:
    """The module as spelled in the file, without `.weight`; containers are dropped where the leaf alone is clear."""
    words = tail[:-1] if len(tail) > 1 and tail[-1] == "weight" else list(tail)
    leaf = next((w for w in reversed(words) if w != "bias"), "")
    if layer is None:
        keep = 2 if "bias" in words[-1:] else 1
        return ".".join(words[-keep - (leaf in SHARED_LEAVES) :])
    if len(words) > 1 and words[0] in CONTAINERS:
        if {"experts", "shared_expert", "shared_experts"} & set(words):
            words = words[1:]
        elif leaf not in SHARED_LEAVES:
            words = words[words.index(leaf) :]
    return ".".join(words) or "layer"


def block_of(tail: list[str], segments: list[str]) -> str:
    """The block, from the most telling word to the least: norm, router, head, embedding, attention, ffn, other."""
    words = set(tail)
    leaf = next((w for w in reversed(tail) if w not in ("weight", "bias")), tail[-1])
    if any(NORM.search(w) for w in tail):
        return "norm"
    if leaf in ROUTER or tail[-1] in ROUTER:
        return "router"
    if "merger" in segments or "pooler" in segments:
        return "other"
    if HEAD & words:
        return "head"
    if EMBEDDING & words and not ATTENTION & words:
        return "embedding"
    if ATTENTION & words:
        return "attention"
    if FFN & words or {"wi", "wo", "wi_0", "wi_1"} & words:
        return "ffn"
    return "other"
