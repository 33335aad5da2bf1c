"""Train only a stored mask: the file that `opdviz subnetwork` writes, in a transformers Trainer or
a loop of your own.

    trainer = Trainer(..., callbacks=[SubnetworkCallback("mask.safetensors")])

    train_only(model, optimizer, read_mask("mask.safetensors"))     # a plain loop: once, before the
    first step loss.backward() optimizer.step()

Gradients are masked as they are accumulated, before any clipping sees them. What a step moves all
the same (weight decay, momentum from before) is put back after the step, so a frozen coordinate
keeps its bits whatever the optimizer does.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerCallback

from opdviz.errors import RequestError, one_line
from opdviz.runs import masks


def train_only(model: torch.nn.Module, optimizer: torch.optim.Optimizer, mask: masks.Mask) -> list:
    """Let `optimizer` move the mask's coordinates of `model` and nothing else, from now on.

    Parameters that the mask does not name are frozen whole. Returns the handles of the hooks;
    `handle.remove()` on each ends it.

    Raises
        RequestError: the mask names a tensor that the model has not, or has in another shape.
    """
    named = {core(name): p for name, p in model.named_parameters(remove_duplicate=False)}
    buffers = {core(name): buffer for name, buffer in model.named_buffers()} | named
    masked = {core(name): name for name in mask.tensors}
    for name, stored in masked.items():
        shape = mask.tensors[stored].shape
        here = tuple(buffers[name].shape) if name in buffers else "no such tensor"
        if here != shape:
            raise RequestError(
                f"mask of {one_line(mask.label, limit=60)}: found {here} for"
                f" {one_line(name, limit=80)} in this model; expected {shape}. Is it the mask of"
                " another model?"
            )
    handles, frozen = [], []
    for parameter in dict.fromkeys(named.values()):
        names = [masked[name] for name, p in named.items() if p is parameter and name in masked]
        moves = mask.read(names[0]) if names else np.zeros(tuple(parameter.shape), dtype=bool)
        keep = torch.from_numpy(np.asarray(~moves)).to(parameter.device)
        frozen.append((parameter, keep, parameter.detach()[keep].clone()))
        if parameter.requires_grad:
            handles.append(parameter.register_post_accumulate_grad_hook(partial(still, keep)))

    def restore(*_) -> None:
        with torch.no_grad():
            for parameter, keep, values in frozen:
                parameter[keep] = values

    return [*handles, optimizer.register_step_post_hook(restore)]


def still(keep: torch.Tensor, parameter: torch.Tensor) -> None:
    """Take the gradient off the coordinates that are to keep their value; a sparse gradient becomes
    a dense one.
    """
    if parameter.grad.is_sparse:
        parameter.grad = parameter.grad.to_dense()
    parameter.grad.masked_fill_(keep, 0)


def core(name: str) -> str:
    """A tensor's name without what compiling the model has put into it.

    >>> core("_orig_mod.model.norm.weight")
    'model.norm.weight'
    """
    return name.replace("_orig_mod.", "")


def read_mask(path: str | Path) -> masks.Mask:
    """The mask in a file.

    Raises
        RequestError: the file is no mask.
    """
    return masks.open_mask(Path(path))


class SubnetworkCallback(TrainerCallback):
    """Trains only a stored mask; give it to any transformers or trl trainer."""

    def __init__(self, mask: str | Path | masks.Mask):
        self.mask = mask if isinstance(mask, masks.Mask) else read_mask(mask)
        self.handles: list = []

    def on_train_begin(self, args, state, control, *, model, optimizer, **_) -> None:
        """Install the hooks, now that the trainer has its optimizer."""
        self.handles = train_only(model, getattr(optimizer, "optimizer", optimizer), self.mask)

    def on_train_end(self, args, state, control, **_) -> None:
        """Take the hooks off again."""
        for handle in self.handles:
            handle.remove()
