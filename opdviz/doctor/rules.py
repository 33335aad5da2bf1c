"""The rules: written data, each with its question, its severity, its threshold, what a finding
usually means, and where it was met: REPOSITORY#NUMBER is a thread on GitHub.
"""

from opdviz.doctor import checks, copies
from opdviz.doctor.finding import ERROR, NOTE, WARNING, Rule

# Moves that siblings' densities would give a tensor: at 20, none at all has a chance of 2e-9.
MOVES_EXPECTED = 20.0
LEAST_COSINE = 0.5  # of base and tuned: below it they are not one model a few steps apart
ALONG_THE_BASE = -0.9  # cosine of an update and its base: shrinking, and little else
DEVIATIONS = 8.0  # robust ones of the logarithm of the relative norm, within a module
NEARLY_ALL = 0.99
# Of a tensor's weights: steps of 16 bits as large as the weights make 0.3 % of them zero.
SHARE_OF_ZEROS = 0.01

RULES = (
    Rule(
        "identical", "Do the two differ at all?", ERROR, None,
        "Usually the wrong file, or one saved before training.", "wdrink/SimpleAR#4",
        checks.identical,
    ),
    Rule(
        "left_behind", "Did every layer's matrix of a module move?", ERROR, MOVES_EXPECTED,
        "Usually shards that were not gathered on saving, or parameters without a gradient.",
        "deepspeedai/DeepSpeed#3090", checks.left_behind,
    ),
    Rule(
        "layer_frozen", "Did every layer move?", WARNING, MOVES_EXPECTED,
        "Usually a freeze of some layers.", "planted alone", checks.layer_frozen,
    ),
    Rule(
        "module_frozen", "Did every module move?", WARNING, MOVES_EXPECTED,
        "Usually adapters on some modules alone, or a freeze by name.", "LLaVA-VL/LLaVA-NeXT#345",
        checks.module_frozen,
    ),
    Rule(
        "only_small", "Did any matrix of a layer move?", ERROR, None,
        "Usually a freeze that took too much, or steps too small for the stored format.",
        "workofart/ml-by-hand#85", checks.only_small,
    ),
    Rule(
        "declaration", "Did what was declared frozen stay, and what was to move move?", ERROR, None,
        "The run did not train what it was meant to.", "the caller; hiyouga/LlamaFactory#10139",
        checks.against_declaration,
    ),
    Rule(
        "idle_experts", "Did every expert move?", WARNING, MOVES_EXPECTED,
        "Usually experts that no token was sent to.", "planted alone", checks.idle_experts,
    ),
    Rule(
        "router", "Did the routers move?", NOTE, None,
        "Recipes differ in whether they should.", "PrimeIntellect-ai/prime-rl#1836", checks.router,
    ),
    Rule(
        "at_their_start", "Did norms leave 1, and biases 0?", WARNING, None,
        "Usually parameters that were lost in a conversion, or never trained.",
        "vllm-project/speculators#765",
        checks.at_their_start,
    ),
    Rule(
        "another_model", "Are both of one model?", ERROR, LEAST_COSINE,
        "Usually another model, or weights set up anew after a conversion.",
        "huggingface/transformers#45079",
        checks.another_model,
    ),
    Rule(
        "decay_alone", "Did anything but weight decay move it?", WARNING, ALONG_THE_BASE,
        "Usually weight decay that is stronger than the gradient, or alone.", "definitions, 1",
        checks.decay_alone,
    ),
    Rule(
        "decayed_words", "Did words that never occur only decay?", NOTE, ALONG_THE_BASE,
        "Usually tokens that training never saw.", "definitions, 1", checks.decayed_words,
    ),
    Rule(
        "not_finite", "Is every value finite?", ERROR, None,
        "Usually an overflow in training or in a conversion.", "axolotl-ai-cloud/axolotl#1191",
        checks.not_finite,
    ),
    Rule(
        "copied", "Are tensors equal that were not?", ERROR, copies.FEWEST_VALUES,
        "Usually one was written over the other.", "planted alone", copies.copied,
    ),
    Rule(
        "rearranged", "Is every value at its own place?", ERROR, copies.FEWEST_VALUES,
        "Usually a conversion that transposed, permuted or renamed.",
        "huggingface/transformers#47031",
        copies.rearranged,
    ),
    Rule(
        "tied_apart", "Are tied head and embedding still equal?", WARNING, None,
        "Usually a tie that training or saving undid; a loader that ties them again drops one.",
        "NVIDIA-NeMo/Automodel#2511", copies.tied_apart,
    ),
    Rule(
        "untied_equal", "Are head and embedding two tensors?", NOTE, None,
        "Usually tied weights that are stored twice; totals count them twice.",
        "vllm-project/vllm#3344",
        copies.untied_equal,
    ),
    Rule(
        "new_zeros", "Did weights become exactly zero?", WARNING, SHARE_OF_ZEROS,
        "Usually pruning, a mask, or values too small for the stored format.", "planted alone",
        copies.new_zeros,
    ),
    Rule(
        "zeroed_rows", "Did whole rows become zero?", ERROR, None,
        "Usually a shard that was not written, or rows set up for padding.", "planted alone",
        copies.zeroed_rows,
    ),
    Rule(
        "scale_jump", "Did one matrix move far more than its like?", WARNING, DEVIATIONS,
        "Usually a layer with a learning rate, or a bug, of its own.", "planted alone",
        checks.scale_jump,
    ),
    Rule(
        "narrowed", "Are both stored in formats alike?", NOTE, None,
        "A wider file of the tuned would show what training did.", "definitions, 6",
        checks.narrowed,
    ),
    Rule(
        "resized", "Has the vocabulary the same size?", NOTE, None,
        "Usually tokens that were added, or rows for padding.", "huggingface/transformers#45079",
        checks.resized,
    ),
    Rule(
        "one_step", "Did more than a cast move it?", ERROR, NEARLY_ALL,
        "Usually a conversion, not training.", "definitions, 2", checks.one_step,
    ),
    Rule(
        "rounded_away", "Did steps show in weights of every size?", WARNING, None,
        "Usually weights kept in 16 bits without a copy of float32: large ones learn nothing.",
        "huggingface/blog#3386", checks.rounded_away,
    ),
    Rule(
        "sixteen_in_thirty_two", "Does a float32 file hold float32 values?", NOTE, None,
        "Steps that bf16 cannot hold were lost before saving.", "definitions, 6",
        checks.sixteen_in_thirty_two,
    ),
)  # fmt: skip
