"""The lab's problems: right answers, and splits that share nothing."""

import itertools
import random

import pytest

from opdviz.lab import tasks


def solve(prompt: str) -> str:
    """The answer to a prompt, worked out another way than the tasks do."""
    if "+" in prompt:
        a, b = prompt.removesuffix("=").split("+")
        return "".join(reversed(str(int(a) + int(b)).zfill(4)))
    if "<" in prompt:
        return max(prompt.removesuffix("=").split("<"))
    return "".join(reversed(prompt.removesuffix("~=")))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_answers_are_right(task):
    for problem in itertools.islice(tasks.problems(task, "train", "x"), 500):
        assert solve(problem.prompt) == problem.answer
        assert set(problem.prompt + problem.answer) <= set(tasks.ALPHABET)
        assert len(problem.answer) <= tasks.LONGEST_ANSWER


@pytest.mark.parametrize("task", tasks.TASKS)
def test_splits_are_disjoint_whatever_the_seed(task):
    drawn = {
        s: {
            p.prompt for seed in "ab" for p in itertools.islice(tasks.problems(task, s, seed), 2000)
        }
        for s in tasks.SPLITS
    }
    for one, other in itertools.combinations(tasks.SPLITS, 2):
        assert not drawn[one] & drawn[other]


def test_the_three_splits_are_the_whole():
    draw = random.Random(0)
    shares = [tasks.split_of(tasks.addition(draw)) for _ in range(4000)]
    assert shares.count("train") / 4000 == pytest.approx(0.8, abs=0.03)
    assert shares.count("validation") / 4000 == pytest.approx(0.1, abs=0.02)


def test_graded_problems_are_distinct_and_never_trained_on():
    graded = tasks.distinct("addition", "test", "graded", 1000)
    assert len({p.prompt for p in graded}) == 1000
    trained = {p.prompt.split("?")[-1] for p in tasks.mixture(0, 20_000)}
    assert not trained & {p.prompt for p in graded}


def test_a_seed_gives_the_same_problems_and_another_seed_others():
    one, same, other = (tasks.mixture(seed, 200) for seed in (0, 0, 1))
    assert one == same != other


def test_hints_hold_the_answer_and_nothing_else_changes():
    problem = tasks.addition(random.Random(1))
    given = tasks.hinted(problem)
    assert given.answer == problem.answer
    assert given.prompt == f"{problem.answer}?{problem.prompt}"
