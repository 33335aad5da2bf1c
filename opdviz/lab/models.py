"""Models and their tokenizer: Qwen3's architecture at toy size, saved and loaded as real
checkpoints are.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed

from opdviz import checkpoint
from opdviz.errors import RequestError, one_line
from opdviz.lab.recipes import VALIDATION
from opdviz.lab.tasks import (
    ALPHABET,
    END,
    LONGEST_ANSWER,
    PAD,
    TARGET,
    TASKS,
    Problem,
    distinct,
    hinted,
)

HEAD = 64
# Of a prompt with its hint and its answer, with room to spare.
POSITIONS = 64
VOCABULARY = 32
FFN_WIDTH = 3


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    vocabulary = {token: i for i, token in enumerate([PAD, END, *ALPHABET])}
    letters = Tokenizer(WordLevel(vocabulary, unk_token=PAD))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token=PAD, eos_token=END, padding_side="left"
    )


def new(hidden: int, layers: int, seed: int) -> Qwen3ForCausalLM:
    """A fresh model.

    Initial weights have standard deviation 1/sqrt(hidden), so that a small step has the relative
    size that it has in a wide model, whose default of 0.02 is about that.
    """
    set_seed(seed)
    words = tokenizer()
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=FFN_WIDTH * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=max(1, hidden // HEAD // 2),
        head_dim=HEAD,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        initializer_range=hidden**-0.5,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def load(folder: Path) -> Qwen3ForCausalLM:
    """A saved model with float32 weights, as an optimizer's master copy starts.

    Raises
        RequestError: the folder's configuration is not that of its weights.
    """
    tensors, config = checkpoint.open(folder).tensors, checkpoint.read_config(folder)
    embedding = tensors.get("model.embed_tokens.weight")
    shape = (config.get("vocab_size"), config.get("hidden_size"))
    if embedding is None or embedding.shape != shape or config.get("model_type") != "qwen3":
        raise RequestError(
            f"lab: found a config.json in {one_line(folder)} that is not that of its weights;"
            " delete the folder and run again."
        )
    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)


def save(model: Qwen3ForCausalLM, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Save a model's weights in `dtype`, its configuration and its tokenizer; the model itself
    stays as it is.

    The output head is the embedding, and is not saved twice.
    """
    weights = {
        name: tensor.to(dtype)
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    model.save_pretrained(folder, state_dict=weights)
    tokenizer().save_pretrained(folder)


@torch.no_grad()
def answers(model: Qwen3ForCausalLM, problems: list[Problem], *, sample: bool = False) -> list[str]:
    """What a model answers to prompts of one length: greedily, or sampled at temperature 1."""
    words, training = tokenizer(), model.training
    model.eval()
    prompts = words([p.prompt for p in problems], return_tensors="pt").input_ids
    tokens = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=LONGEST_ANSWER + 1,
        do_sample=sample,
        top_k=0 if sample else None,
        pad_token_id=words.pad_token_id,
    )
    model.train(training)
    return [words.decode(row, skip_special_tokens=True) for row in tokens[:, prompts.shape[1] :]]


def correct(
    model: Qwen3ForCausalLM, problems: list[Problem], *, with_answer: bool = False
) -> list[bool]:
    """Which problems are answered to the letter; `with_answer` puts the answer in each prompt."""
    prompts = [hinted(p) for p in problems] if with_answer else problems
    return [answer == p.answer for answer, p in zip(answers(model, prompts), prompts, strict=True)]


def accuracy(
    model: Qwen3ForCausalLM, problems: list[Problem], *, with_answer: bool = False
) -> float:
    """Share of problems answered to the letter."""
    right = correct(model, problems, with_answer=with_answer)
    return sum(right) / len(right)


def graded(model: Qwen3ForCausalLM, count: int) -> dict:
    """A run's `accuracy` by task and split, and which of `count` test problems it answered
    (`answers`: bits, as hexadecimal text).

    Two runs are graded on the same problems: what tells them apart is on how many they differ.
    """
    target = test_problems(count)
    right = correct(model, target)
    accuracies = grade(model, target, sum(right) / len(right))
    return {"accuracy": accuracies, "answers": {"test": np.packbits(right).tobytes().hex()}}


def test_problems(count: int) -> list[Problem]:
    """The test problems that every run is graded on."""
    return distinct(TARGET, "test", "graded", count)


def grade(model: Qwen3ForCausalLM, target: list[Problem], test: float) -> dict[str, float]:
    """Accuracy by task and split: the target on validation and test, the others on test, and with
    the answer given.
    """
    accuracies = {"test": test}
    validation = distinct(TARGET, "validation", "graded", min(VALIDATION, len(target)))
    accuracies["validation"] = accuracy(model, validation)
    for task in TASKS:
        if task != TARGET:
            accuracies[task] = accuracy(model, distinct(task, "test", "graded", len(target)))
    accuracies["with_answer"] = accuracy(model, target, with_answer=True)
    return accuracies
