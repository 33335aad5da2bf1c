"""The lab's problems: three-digit addition, which is trained for, and comparison and reversal,
which are kept an eye on.

A problem is a prompt that ends in `=` and its only right answer. Which split a problem belongs to
is a property of the problem itself (a hash of its prompt), so that train, validation and test are
disjoint whoever draws them and when.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from opdviz import fingerprint

ALPHABET = "0123456789abcdefghij+<~=?"
PAD, END = "<pad>", "<end>"
TARGET = "addition"
# Characters of the longest answer, a word's that is reversed.
LONGEST_ANSWER = 5
SPLITS = {"train": range(0, 80), "validation": range(80, 90), "test": range(90, 100)}
# Of pretraining's problems with their answer in the prompt: self-distillation needs to read it.
HINTED_SHARE = 0.1
MIXTURE = {"addition": 0.7, "comparison": 0.15, "reversal": 0.15}


@dataclass(frozen=True)
class Problem:
    """A prompt and its answer."""

    prompt: str
    answer: str


def addition(draw: random.Random) -> Problem:
    """Two numbers of three digits; the sum's four digits from the last to the first, as a carry
    runs.

    >>> addition(random.Random(0))
    Problem(prompt='864+394=', answer='8521')
    """
    a, b = draw.randrange(1000), draw.randrange(1000)
    return Problem(f"{a:03d}+{b:03d}=", f"{a + b:04d}"[::-1])


def comparison(draw: random.Random) -> Problem:
    """Two numbers of three digits; the larger one."""
    a, b = draw.randrange(1000), draw.randrange(1000)
    return Problem(f"{a:03d}<{b:03d}=", f"{max(a, b):03d}")


def reversal(draw: random.Random) -> Problem:
    """Five letters; the same from behind."""
    word = "".join(draw.choices("abcdefghij", k=LONGEST_ANSWER))
    return Problem(f"{word}~=", word[::-1])


TASKS = {"addition": addition, "comparison": comparison, "reversal": reversal}


def split_of(problem: Problem) -> str:
    """The split that a problem belongs to."""
    bucket = int(fingerprint.of_bytes(problem.prompt), 16) % 100
    return next(name for name, buckets in SPLITS.items() if bucket in buckets)


def problems(task: str, split: str, seed: str) -> Iterator[Problem]:
    """Problems of one task and split, without end, in the order of a seed."""
    draw = random.Random(f"{task} {seed}")
    while True:
        problem = TASKS[task](draw)
        if split_of(problem) == split:
            yield problem


def distinct(task: str, split: str, seed: str, count: int) -> list[Problem]:
    """The first `count` different problems of `problems`."""
    by_text: dict[str, Problem] = {}
    for problem in problems(task, split, seed):
        by_text.setdefault(problem.prompt, problem)
        if len(by_text) == count:
            return list(by_text.values())
    return []


def hinted(problem: Problem) -> Problem:
    """The problem with its answer in the prompt, which a model can learn to use."""
    return Problem(f"{problem.answer}?{problem.prompt}", problem.answer)


def mixture(seed: int, count: int) -> list[Problem]:
    """What a base model is trained on: training problems of all tasks, some with the answer in the
    prompt.
    """
    draw = random.Random(f"mixture {seed}")
    streams = {task: problems(task, "train", f"mixture {seed}") for task in TASKS}
    drawn = [
        next(streams[task])
        for task in draw.choices(list(MIXTURE), weights=list(MIXTURE.values()), k=count)
    ]
    return [hinted(p) if draw.random() < HINTED_SHARE else p for p in drawn]
