"""What is watched while a recipe trains: accuracy along the way, the trajectory, the optimizer, and
how far it is.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import TrainerCallback

from opdviz.definitions import VISIBLE
from opdviz.lab import models
from opdviz.lab.tasks import Problem

# AdamW's own, as every recipe has them.
BETAS = (0.9, 0.999)
# Two gradients of zero have no cosine, and nothing is divided by zero.
LEAST = 1e-30


class Curve(TrainerCallback):
    """How far a run has come after some steps: accuracy on validation problems and, where there is
    a base, what moved.

    Rows of {step, accuracy, unchanged_exact, unchanged_absolute, relative_norm}; unchanged shares
    are those of bf16 copies.
    """

    def __init__(self, problems: list[Problem], at: set[int], *, compared: bool):
        self.problems, self.at, self.compared = problems, at, compared
        self.base: list[torch.Tensor] = []
        self.rows: list[dict] = []

    def on_train_begin(self, args, state, control, *, model, **_) -> None:
        """Remember where it starts."""
        self.base = [p.detach().clone() for p in model.parameters()] if self.compared else []

    def on_step_end(self, args, state, control, *, model, **_) -> None:
        """Evaluate and compare."""
        if state.global_step in self.at:
            row = {"step": state.global_step, "accuracy": models.accuracy(model, self.problems)}
            self.rows.append(row | (self.moved(model) if self.compared else {}))

    @torch.no_grad()
    def moved(self, model) -> dict:
        """How much of the model is as it was at the start."""
        exact = absolute = total = 0
        energy = size = 0.0
        for start, now in zip(self.base, model.parameters(), strict=True):
            delta = (now.to(torch.bfloat16).double() - start.double()).abs()
            exact += int((delta == 0).sum())
            absolute += int((delta <= VISIBLE).sum())
            total += delta.numel()
            energy += float(delta.square().sum())
            size += float(start.double().square().sum())
        shares = {"unchanged_exact": exact / total, "unchanged_absolute": absolute / total}
        return shares | {"relative_norm": (energy / size) ** 0.5}


class Anneal(TrainerCallback):
    """Ends a run by what it can do: once validation accuracy reaches `until`, the learning rate
    falls to 0 in `steps` steps.
    """

    def __init__(self, problems: list[Problem], *, until: float, every: int, steps: int):
        self.problems, self.until, self.every, self.steps = problems, until, every, steps
        self.last: int | None = None

    def on_step_begin(self, args, state, control, *, optimizer, **_) -> None:
        """Set the learning rate of the step to come."""
        if self.last is not None:
            for group in optimizer.param_groups:
                group["lr"] = args.learning_rate * (self.last - state.global_step) / self.steps

    def on_step_end(self, args, state, control, *, model, **_) -> None:
        """See whether it is time to begin, or to stop."""
        step = state.global_step
        if (
            self.last is None
            and step % self.every == 0
            and models.accuracy(model, self.problems) >= self.until
        ):
            self.last = step + self.steps
        control.should_training_stop |= step == self.last


class Trajectory(TrainerCallback):
    """Saves the model after some steps, each under `steps/<step>`."""

    def __init__(self, folder: Path, at: tuple[int, ...]):
        self.folder, self.at = folder, at

    def on_step_end(self, args, state, control, *, model, **_) -> None:
        """Save."""
        if state.global_step in self.at:
            models.save(model, self.folder / "steps" / str(state.global_step))


class Diagnostics(TrainerCallback):
    """Adam's moments of the gradients that any optimizer is given: rows of {step, cv_sqrt_v,
    cosine}.

    `cv_sqrt_v` is the coefficient of variation of sqrt(v) over all coordinates: at 0, AdamW would
    be SGD with another learning rate. `cosine` is between the gradient and the momentum before it.
    """

    def __init__(self, at: set[int]):
        self.at, self.rows = at, []
        self.first: list[torch.Tensor] = []
        self.second: list[torch.Tensor] = []
        self.parameters: list[torch.nn.Parameter] = []

    def on_train_begin(self, args, state, control, *, model, **_) -> None:
        """Start from moments of zero."""
        self.parameters = list(model.parameters())
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    def on_pre_optimizer_step(self, args, state, control, **_) -> None:
        """Take in the gradients, which stand as the optimizer will see them."""
        inner = before = now = 0.0
        for p, m, v in zip(self.parameters, self.first, self.second, strict=True):
            inner += float((m.double() * p.grad).sum())
            before += float(m.double().square().sum())
            now += float(p.grad.double().square().sum())
            m.lerp_(p.grad, 1 - BETAS[0])
            v.lerp_(p.grad.square(), 1 - BETAS[1])
        if (step := state.global_step + 1) in self.at:
            root = torch.cat([v.flatten() for v in self.second]).double().sqrt()
            cosine = inner / max((before * now) ** 0.5, LEAST) if step > 1 else None
            self.rows.append(
                {"step": step, "cv_sqrt_v": float(root.std() / root.mean()), "cosine": cosine}
            )


class Told(TrainerCallback):
    """Tells how many steps are done."""

    def __init__(self, tell: Callable[[int], None]):
        self.tell = tell

    def on_step_end(self, args, state, control, **_) -> None:
        """Tell."""
        self.tell(state.global_step)
