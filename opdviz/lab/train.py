"""One run of one recipe: trl's trainers on the lab's problems, from the base's bf16 weights back to
bf16.

A run is written beside its place and renamed into it when it is whole, so that a killed one leaves
nothing behind.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from safetensors import SafetensorError
from transformers import TrainerCallback, set_seed

from opdviz import files
from opdviz.definitions import VISIBLE
from opdviz.errors import MachineError, one_line
from opdviz.lab import models, tasks
from opdviz.lab.callbacks import Anneal, Curve, Diagnostics, Told, Trajectory
from opdviz.lab.places import MASK, MASTER, RUN, Places
from opdviz.lab.recipes import (
    ANNEAL,
    BATCH,
    CURVE_POINTS,
    GENERATIONS,
    LOOK_EVERY,
    PAPER_DENSITY,
    VALIDATION,
    WEIGHT_DECAY,
    Recipe,
)
from opdviz.lab.subnetwork import SubnetworkCallback
from opdviz.lab.tasks import Problem
from opdviz.runs import masks

LIBRARIES = ("torch", "transformers", "trl", "datasets", "accelerate")
# Steps, of pretraining alone: a fresh model diverges at its full rate.
WARMUP = 50
# What the system says of a full disk, a limit on files, and a quota.
NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def run(
    recipe: Recipe,
    places: Places,
    *,
    master: bool = False,
    tell: Callable[[int], None] = lambda n: None,
) -> dict:
    """Train one recipe from the runs it needs, which are there. Returns what is known of the run.

    `master` also keeps the float32 weights, under `master/`. `tell` is told the steps done.

    Raises
        MachineError: the disk is full; nothing half-written stays.
    """
    try:
        with files.new_folder(places.folder(recipe)) as work:
            with quiet():
                facts = train(places.shortened(recipe), places, work, master=master, tell=tell)
            (work / RUN).write_text(json.dumps(facts, indent=1))
    except (OSError, SafetensorError) as error:
        raise full(recipe, error) from None
    return facts


def grade_again(recipe: Recipe, places: Places) -> dict:
    """Grade a finished run as it lies there, and keep its accuracy and answers with it; the facts
    as they are now.
    """
    facts, folder = places.facts(recipe), places.folder(recipe)
    with quiet():
        facts |= models.graded(models.load(folder), places.graded_on(recipe))
    files.write(folder / RUN, json.dumps(facts, indent=1).encode())
    return facts


def full(recipe: Recipe, error: Exception) -> MachineError:
    """The one line for a run that could not be written."""
    reason = one_line(getattr(error, "strerror", None) or error, limit=100)
    room = isinstance(error, SafetensorError) or getattr(error, "errno", None) in NO_ROOM
    return MachineError(
        f"lab run {recipe.name}: {reason}; {'make room' if room else 'mend that'} and run it again."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice from the libraries; one thread, the same sums in the same order every
    time.
    """
    disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with (
        warnings.catch_warnings(),
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def train(recipe: Recipe, places: Places, work: Path, *, master: bool, tell) -> dict:
    """Train a recipe, save the model and its trajectory into `work`; what is known of the run."""
    seed = recipe.seed if recipe.seed is not None else places.seed
    started = time.monotonic()
    fresh = recipe.loop == "pretrain"
    set_seed(seed)
    model = (
        models.new(recipe.hidden, recipe.layers, seed)
        if fresh
        else models.load(places.of(recipe.base))
    )
    model = model.to(getattr(torch, recipe.weights))
    count = CURVE_POINTS if recipe.until is None else recipe.steps // (5 * LOOK_EVERY)
    points = {max(1, round(recipe.steps * i / count)) for i in range(1, count + 1)}
    curve = Curve(
        tasks.distinct(tasks.TARGET, "validation", "graded", VALIDATION), points, compared=not fresh
    )
    watch: list[TrainerCallback] = [curve, Told(tell), Trajectory(work, recipe.saves)]
    diagnostics = Diagnostics(points | {1})
    watch += [diagnostics] if recipe.diagnostics else []
    if recipe.until is not None:
        watch.append(Anneal(curve.problems, until=recipe.until, every=LOOK_EVERY, steps=ANNEAL))
    if recipe.mask:
        keep_mask(recipe, places, work / MASK, seed)
        watch.append(SubnetworkCallback(work / MASK))
    trainer = LOOPS[recipe.loop](recipe, model, places, work, seed, watch)
    trainer.train()
    models.save(model, work)
    shutil.rmtree(work / "trainer", ignore_errors=True)
    if master:
        models.save(model, work / MASTER, dtype=torch.float32)
    model = models.load(work)  # what was saved is what is graded
    return {
        "recipe": recipe.data,
        "needs": places.needs(recipe),
        "seed": seed,
        **models.graded(model, places.graded_on(recipe)),
        "curve": curve.rows,
        "diagnostics": diagnostics.rows,
        "seconds": time.monotonic() - started,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def keep_mask(recipe: Recipe, places: Places, path: Path, seed: int) -> None:
    """Write the mask that a recipe trains under: from another run's visible update."""
    source, kind = recipe.mask
    matching = masks.matching_of(places.of(recipe.base), places.of(source))
    threshold = masks.threshold_for(matching, PAPER_DENSITY) if kind == "density" else VISIBLE
    base = masks.prints(matching.base)
    masks.keep(path, masks.visible(matching, threshold), key=source, base=base, threshold=threshold)
    if kind == "random":
        mask = masks.open_mask(path)
        masks.keep(
            path,
            masks.random_like(mask, seed),
            key=f"random like {source}",
            base=base,
            threshold=threshold,
        )


def settings(recipe: Recipe, work: Path, seed: int) -> dict:
    """What every trainer is told."""
    return {
        "output_dir": str(work / "trainer"),
        "max_steps": recipe.steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if recipe.loop == "pretrain" else "constant",
        "warmup_steps": WARMUP if recipe.loop == "pretrain" else 0,
        "optim": recipe.optimizer,
        "weight_decay": WEIGHT_DECAY,
        "per_device_train_batch_size": BATCH,
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def pretrain(recipe: Recipe, model, places: Places, work: Path, seed: int, watch: list):
    """From nothing, on the mixture of all tasks."""
    return supervised(recipe, model, work, seed, watch, tasks.mixture(seed, recipe.steps * BATCH))


def sft(recipe: Recipe, model, places: Places, work: Path, seed: int, watch: list):
    """On the right answers."""
    return supervised(recipe, model, work, seed, watch, drawn(recipe, seed))


def samples(recipe: Recipe, model, places: Places, work: Path, seed: int, watch: list):
    """On what the teacher answers at temperature 1, right or wrong."""
    teacher, prompts = models.load(places.of("teacher")), drawn(recipe, seed)
    answers = [
        a
        for i in range(0, len(prompts), 1024)
        for a in models.answers(teacher, prompts[i : i + 1024], sample=True)
    ]
    return supervised(
        recipe,
        model,
        work,
        seed,
        watch,
        [Problem(p.prompt, a) for p, a in zip(prompts, answers, strict=True)],
    )


def supervised(recipe: Recipe, model, work: Path, seed: int, watch: list, problems: list[Problem]):
    """trl's SFTTrainer, with the loss on the answers."""
    words = models.tokenizer()

    def row(problem: Problem) -> dict:
        prompt = words(problem.prompt).input_ids
        answer = [*words(problem.answer).input_ids, words.eos_token_id]
        return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}

    arguments = trl.SFTConfig(
        **settings(recipe, work, seed),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = Dataset.from_list([row(p) for p in problems])
    return trl.SFTTrainer(
        model, arguments, train_dataset=data, processing_class=words, callbacks=watch
    )


def distillation(recipe: Recipe, model, places: Places, work: Path, seed: int, watch: list):
    """trl's DistillationTrainer: reverse KL to the teacher, token by token, on the student's own
    samples.
    """
    arguments = trl.DistillationConfig(
        **settings(recipe, work, seed),
        beta=1.0,
        temperature=1.0,
        max_completion_length=tasks.LONGEST_ANSWER + 1,
    )
    data = Dataset.from_list([{"prompt": p.prompt} for p in drawn(recipe, seed)])
    teacher = models.load(places.of("teacher"))
    return trl.DistillationTrainer(
        model,
        teacher,
        arguments,
        train_dataset=data,
        processing_class=models.tokenizer(),
        callbacks=watch,
    )


def self_distillation(recipe: Recipe, model, places: Places, work: Path, seed: int, watch: list):
    """trl's SDFTTrainer: the teacher is the model before training, given the answer."""
    from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    arguments = SDFTConfig(
        **settings(recipe, work, seed),
        distillation_mode="full_logits",
        distillation_alpha=1.0,
        teacher_model_kind="base",
        teacher_prompt_template="{privileged_context}?{prompt}",
        max_completion_length=tasks.LONGEST_ANSWER + 1,
    )
    rows = [{"prompt": p.prompt, "privileged_context": p.answer} for p in drawn(recipe, seed)]
    return SDFTTrainer(
        model,
        arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=models.tokenizer(),
        callbacks=watch,
    )


def grpo(recipe: Recipe, model, places: Places, work: Path, seed: int, watch: list):
    """trl's GRPOTrainer: reward 1 for the exact answer."""

    def exact(completions: list[str], answer: list[str], **_) -> list[float]:
        return [float(c == a) for c, a in zip(completions, answer, strict=True)]

    arguments = trl.GRPOConfig(
        **settings(recipe, work, seed),
        num_generations=GENERATIONS,
        max_completion_length=tasks.LONGEST_ANSWER + 1,
        beta=0.0,
    )
    data = Dataset.from_list([asdict(p) for p in drawn(recipe, seed)])
    return trl.GRPOTrainer(
        model,
        exact,
        arguments,
        train_dataset=data,
        processing_class=models.tokenizer(),
        callbacks=watch,
    )


LOOPS = {
    "pretrain": pretrain,
    "sft": sft,
    "samples": samples,
    "distillation": distillation,
    "self": self_distillation,
    "grpo": grpo,
}


def drawn(recipe: Recipe, seed: int) -> list[Problem]:
    """The training problems of a run: as many as its steps take."""
    stream = tasks.problems(tasks.TARGET, "train", f"run {seed}")
    return [next(stream) for _ in range(recipe.steps * BATCH)]
