"""The place of a tensor in its model, read off its name alone, and how attention is split by its
configuration.

Names are matched segment by segment (`a.b.c` has segments a, b, c), never by substring: `qkv_proj`
is not `v_proj`, `gate_up_proj` is not `up_proj`, and layer 3 of `visual.blocks.3` is not layer 3 of
the language tower.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Names of the whole model, which one library writes and another leaves out.
PREFIXES = {"base_model", "model", "language_model", "transformer", "bert", "roberta", "backbone"}
# What files call otherwise than the library that wrote most of them.
SAME = {"block_sparse_moe": "mlp", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
ATTENTION_PARTS = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("q", "k", "v"),
    ("wq", "wk", "wv"),
    ("q_lin", "k_lin", "v_lin"),
    ("to_q", "to_k", "to_v"),
)
GATE_PARTS = (("gate_proj", "up_proj"), ("w1", "w3"), ("wi_0", "wi_1"))
# What files have as one tensor, and the tensors that others have instead.
PARTS = {
    **dict.fromkeys(("qkv_proj", "c_attn", "Wqkv", "qkv", "W_pack", "to_qkv"), ATTENTION_PARTS),
    **dict.fromkeys(("query_key_value", "wqkv"), ATTENTION_PARTS),
    **dict.fromkeys(("gate_up_proj", "gate_and_up_proj", "w13"), GATE_PARTS),
}
# Tensors of an expert beside those of all experts under the same or another name.
ALONE = {
    "down_proj": ("down_proj", "w2"),
    "gate_proj": ("gate_proj", "w1"),
    "up_proj": ("up_proj", "w3"),
}
SAME_TAILS = {
    "mlp.input_linear.weight": "mlp.experts.gate_up_proj",
    "mlp.output_linear.weight": "mlp.experts.down_proj",
    "mlp.router.layer.weight": "mlp.router.weight",
    "mlp.gate.weight": "mlp.router.weight",
}
TAILS = tuple(SAME_TAILS)
# Modules whose tensors of three axes are a matrix an expert.
STACKS = {"experts", "input_linear", "output_linear"}
LAYER_LISTS = {"layers", "layer", "h", "blocks", "block"}
VISUAL = {
    "visual",
    "vision_tower",
    "vision_model",
    "vit",
    "vision_encoder",
    "layernorm_before",
    "layernorm_after",
}
CONTAINERS = ("self_attn", "attention", "attn", "mlp", "block_sparse_moe", "feed_forward", "ffn")
SHARED_LEAVES = {
    "c_proj",
    "dense",
    "proj",
    "query",
    "key",
    "value",
    "output",
    "self",
    "gate",
    "LayerNorm",
    "0",
    "2",
}
EMBEDDING = {
    "embed_tokens", "word_embeddings", "position_embeddings", "token_type_embeddings", "wte",
    "wpe", "embed_in", "shared", "patch_embed", "patch_embeddings", "patch_embedding",
    "position_embedding", "pos_embed", "cls_token", "class_embedding", "mask_token",
    "tok_embeddings", "embeddings", "embed_positions", "embeddings_project", "patch_conv",
    "image_newline",
}  # fmt: skip
HEAD = {
    "lm_head", "embed_out", "classifier", "score", "cls", "predictions", "pooler", "head",
    "vocab_projector", "vocab_transform", "generator_predictions", "generator_lm_head",
    "final_logits_bias", "logit_scale", "logit_bias", "action_out_proj",
}  # fmt: skip
# The head of Llama's own files, InternLM and torchtune.
# Convolutions before the first layer of a speech encoder.
STEM = {"conv1", "conv2"}
OUTPUTS = {("output", "weight"), ("model", "output", "weight"), ("decoder", "bias")}
ATTENTION = {
    "self_attn", "attention", "attn", "self_attention", "SelfAttention", "EncDecAttention",
    "cross_attn", "encoder_attn", "q_proj", "k_proj", "v_proj", "o_proj", "qkv", "qkv_proj",
    "c_attn", "query_key_value",
}  # fmt: skip
FFN = {
    "mlp", "experts", "shared_expert", "shared_experts", "block_sparse_moe", "feed_forward", "ffn",
    "DenseReluDense", "intermediate", "output", "fc1", "fc2", "c_fc", "gate_proj", "up_proj",
    "down_proj", "gate_up_proj", "w1", "w2", "w3", "wi", "wo", "wi_0", "wi_1", "shared_mlp",
}  # fmt: skip
# Of state-space models and linear attention: what is not plain attention, and mixes tokens.
MIXER = {
    "mamba", "mixer", "linear_attn", "ssm", "rg_lru", "conv_1d", "temporal_block", "short_conv",
    "A_log", "D", "dt_bias", "dt_proj", "x_proj", "conv1d",
}  # fmt: skip
# What carries one modality into the space of another.
PROJECTOR = {
    "merger", "deepstack_merger_list", "multi_modal_projector", "mm_projector", "connector",
    "modality_projection", "mm_input_projection_weight", "patch_merger", "text_projection",
    "visual_projection", "resampler", "aligner", "state_proj", "action_in_proj",
    "action_time_mlp_in", "action_time_mlp_out", "time_mlp_in", "time_mlp_out",
}  # fmt: skip
# Of a vision-language-action policy, what acts beside the model that sees and reads.
ACTION = {
    "gemma_expert", "lm_expert", "action_expert", "state_proj", "action_in_proj", "action_out_proj",
    "action_time_mlp_in", "action_time_mlp_out", "time_mlp_in", "time_mlp_out",
}  # fmt: skip
ROUTER = {"router", "gate", "e_score_correction_bias", "shared_expert_gate"}
NORM = re.compile(
    r"(^|_)(layer_?norm|norm|ln)(_|\d|$)|layernorm|layrnorm|^ln_|LayerNorm|^lambda_?\d$|^gamma_\d$",
    re.IGNORECASE,
)
EXPERTS_SLICE = re.compile(r"(?P<name>.*)\[(?P<expert>[0-9]{1,6})\]", re.DOTALL)
LONGEST_NUMBER = 6  # digits of a layer or an expert; what is longer is a word like any other


class Place(NamedTuple):
    """Where a tensor stands: layer number, block (closed set), module as spelled, tower (closed
    set), expert number.
    """

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
    if name.endswith("]") and (slice_of_stack := EXPERTS_SLICE.fullmatch(name)):
        name, expert = slice_of_stack["name"], int(slice_of_stack["expert"])
    segments = name.split(".")
    if not WRAPPERS.isdisjoint(segments):
        segments = [s for s in segments if s not in WRAPPERS] or [name]
    layer, head, tail = split_layer(segments)
    tail = tail or segments[-1:]
    at = tail.index("experts") + 1 if "experts" in tail else len(tail)
    if at < len(tail) and is_number(tail[at]):
        expert, tail = int(tail[at]), tail[:at] + tail[at + 1 :]
    return Place(layer, *words_of(tuple(head), tuple(tail), layer is not None), expert)


def split_layer(segments: list[str]) -> tuple[int | None, list[str], list[str]]:
    """The first layer number, the segments before it and those after it; without one, all segments
    are after it.
    """
    if not LAYER_LISTS.isdisjoint(segments):
        for at, word in enumerate(segments[:-1], 1):
            if word in LAYER_LISTS and is_number(segments[at]):
                return int(segments[at]), segments[:at], segments[at + 1 :]
    return None, [], segments


@lru_cache(maxsize=1 << 14)  # the names of a model differ by their numbers
def words_of(head: tuple[str, ...], tail: tuple[str, ...], numbered: bool) -> tuple[str, str, str]:
    """Block, module and tower of a name without the numbers of its layer and expert."""
    segments = [*head, "0", *tail] if numbered else tail
    return block_of(tail, segments), module_of(tail, numbered), tower_of(segments)


def core(name: str) -> str:
    """A name without wrappers anywhere and without the model prefixes before it, its containers
    called as they mostly are.

    >>> core("_orig_mod.model.language_model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    """
    segments, first = [SAME.get(s, s) for s in name.split(".") if s not in WRAPPERS], 0
    while first < len(segments) - 1 and segments[first] in PREFIXES:
        first += 1
    name = ".".join(segments[first:])
    if name.endswith(TAILS):
        tail = next(tail for tail in SAME_TAILS if name.endswith(tail))
        return name.removesuffix(tail) + SAME_TAILS[tail]
    return name


def is_stack(name: str) -> bool:
    """Whether a tensor of three axes is a matrix an expert.

    >>> is_stack("model.layers.0.mlp.experts.down_proj"), is_stack("visual.patch_embed.proj.weight")
    (True, False)
    """
    return not STACKS.isdisjoint(name.split("."))


def is_number(word: str) -> bool:
    """Whether a segment counts layers or experts: a few plain digits.

    >>> is_number("12"), is_number("\u00b2"), is_number("1234567")
    (True, False, False)
    """
    return len(word) <= LONGEST_NUMBER and word.isascii() and word.isdigit()


def tower_of(segments: Sequence[str]) -> str:
    """The tower: action and visual by their own words, encoder and decoder where both could be (T5,
    BART, Whisper), language otherwise.
    """
    if not ACTION.isdisjoint(segments):
        return "action"
    if (
        not VISUAL.isdisjoint(segments)
        or "patch_embed" in segments
        or "patch_embeddings" in segments
    ):
        return "visual"
    # ViT's attention.attention.query
    if segments.count("attention") > 1 and any(
        a == b == "attention" for a, b in pairwise(segments)
    ):
        return "visual"
    # BERT has encoder.layer.
    if "block" in segments or "layers" in segments or "final_layer_norm" in segments:
        return next(
            (tower for tower in ("encoder", "decoder") if tower in segments[:2]), "language"
        )
    return "language"


def module_of(tail: tuple[str, ...], numbered: bool) -> str:
    """The module as spelled in the file, without `.weight`; containers are dropped where the leaf
    alone is clear.
    """
    words = list(tail[:-1] if len(tail) > 1 and tail[-1] == "weight" else tail)
    leaf = next((w for w in reversed(words) if w != "bias"), "")
    if not numbered:
        keep = 2 if "bias" in words[-1:] else 1
        return ".".join(words[-keep - (leaf in SHARED_LEAVES) :])
    if len(words) > 1 and words[0] in CONTAINERS:
        if {"experts", "shared_expert", "shared_experts"} & set(words):
            words = words[1:]
        elif leaf not in SHARED_LEAVES:
            words = words[words.index(leaf) :]
    return ".".join(words) or "layer"


def block_of(tail: tuple[str, ...], segments: Sequence[str]) -> str:
    """The block, from the most telling word to the least: norm, router, projector, head, embedding,
    attention, ffn, mixer, other.
    """
    leaf = next((w for w in reversed(tail) if w not in ("weight", "bias")), tail[-1])
    text = ".".join(tail).lower()
    # Gains of single channels, of rescaled branches too, are told from what they scale by words.
    hinted = any(hint in text for hint in ("norm", "ln", "lambda", "gamma"))
    if hinted and any(NORM.search(w) for w in tail):
        return "norm"
    if leaf in ROUTER or tail[-1] in ROUTER or "router" in tail:
        return "router"
    if not PROJECTOR.isdisjoint(segments):
        return "projector"
    if not HEAD.isdisjoint(tail) or tuple(segments) in OUTPUTS:
        return "head"
    attention = not ATTENTION.isdisjoint(tail)
    stem = "encoder" in tail and not STEM.isdisjoint(tail)
    if not attention and (stem or not EMBEDDING.isdisjoint(tail)):
        return "embedding"
    if attention:
        return "attention"
    if not FFN.isdisjoint(tail):
        return "ffn"
    mixes = not MIXER.isdisjoint(tail) or (tail[0] == "conv" and len(segments) > len(tail))
    return "mixer" if mixes else "other"


# A configuration is somebody's text: beyond these it speaks of no model.
MOST_HEADS, WIDEST = 1 << 16, 1 << 24


def head_size(config: dict) -> int | None:
    """The width of one attention head by the model's configuration; `None` where it does not say.

    >>> head_size({"hidden_size": 384, "num_attention_heads": 12})
    32
    """
    config = text_config(config)
    if width := bounded(config.get("head_dim"), WIDEST):
        return width
    hidden, heads = (
        bounded(config.get("hidden_size"), WIDEST),
        bounded(config.get("num_attention_heads"), MOST_HEADS),
    )
    return (hidden // heads or None) if hidden and heads else None


def head_counts(config: dict) -> dict[str, int]:
    """How attention is split by the model's configuration: heads of the query, of key and value,
    and their width.

    >>> head_counts({"hidden_size": 384, "num_attention_heads": 12})
    {'query': 12, 'key_value': 12, 'size': 32}
    """
    size, config = head_size(config), text_config(config)
    query = bounded(config.get("num_attention_heads"), MOST_HEADS)
    shared = bounded(config.get("num_key_value_heads", query), MOST_HEADS)
    return {"query": query, "key_value": shared, "size": size} if size and query and shared else {}


def text_config(config: dict) -> dict:
    """The part of a configuration that tells of the language tower."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def bounded(value: object, most: int) -> int | None:
    """A count that somebody wrote, if it is one: a whole number from 1 to `most`, and no truth
    value.
    """
    return value if type(value) is int and 1 <= value <= most else None
