"""Training a stored mask: frozen coordinates keep their bits, in a plain loop and in a transformers
Trainer.
"""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from opdviz.errors import RequestError
from opdviz.lab import models, tasks
from opdviz.lab.subnetwork import SubnetworkCallback, read_mask, train_only
from opdviz.runs import masks

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own advice
OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.5),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=1e-1, momentum=0.9, weight_decay=0.5),
    "adam_l2": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, weight_decay=0.5),
}


@pytest.fixture(scope="module")
def model():
    """A tiny model whose embedding is tied, as the lab's are."""
    return models.new(64, 1, seed=0)


def fresh(model):
    """The same weights in a model of their own."""
    made = models.new(64, 1, seed=1)
    made.load_state_dict(model.state_dict())
    return made


@pytest.fixture(scope="module")
def mask_file(model, tmp_path_factory):
    """A third of every tensor's coordinates; one tensor is not named at all, one has no coordinate."""
    draw = np.random.default_rng(0)
    bits = {name: draw.random(tuple(p.shape)) < 0.3 for name, p in model.named_parameters()}
    del bits["model.norm.weight"]
    bits["model.layers.0.self_attn.q_proj.weight"][:] = False
    path = tmp_path_factory.mktemp("mask") / "mask.safetensors"
    masks.keep(path, iter(bits.items()), key="k", base=["f"], threshold=1e-5)
    return path


def batch(n: int = 8) -> dict:
    """Problems as tokens."""
    words = models.tokenizer()
    rows = words(
        [p.prompt + p.answer for p in tasks.distinct("addition", "train", "t", n)],
        return_tensors="pt",
    )
    return {"input_ids": rows.input_ids, "labels": rows.input_ids}


def check(before, after, path) -> None:
    """Nothing outside the mask differs in any bit, and inside it nearly everything moved."""
    mask, moved = masks.open_mask(path), 0
    for (name, old), new in zip(before.named_parameters(), after.parameters()):
        inside = (
            torch.from_numpy(mask.read(name))
            if name in mask.tensors
            else torch.zeros_like(old, dtype=torch.bool)
        )
        changed = old.detach().view(torch.int32) != new.detach().view(torch.int32)
        assert not (changed & ~inside).any(), name
        moved += int(changed.sum())
    assert moved > 0.5 * mask.density * sum(p.numel() for p in before.parameters())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_plain_loop_moves_the_mask_alone(model, mask_file, kind):
    tuned = fresh(model)
    optimizer = OPTIMIZERS[kind](tuned.parameters())
    train_only(tuned, optimizer, read_mask(mask_file))
    for _ in range(3):
        for _ in range(2):  # gradient accumulation
            tuned(**batch()).loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    check(model, tuned, mask_file)


def test_momentum_from_before_moves_nothing_frozen(model, mask_file):
    tuned = fresh(model)
    optimizer = OPTIMIZERS["sgd_momentum"](tuned.parameters())
    tuned(**batch()).loss.backward()
    optimizer.step()
    start = fresh(tuned)
    train_only(tuned, optimizer, read_mask(mask_file))
    optimizer.step()
    check(start, tuned, mask_file)


def test_clipping_sees_the_mask_s_gradient_alone(model, mask_file):
    tuned = fresh(model)
    train_only(tuned, torch.optim.AdamW(tuned.parameters()), read_mask(mask_file))
    tuned(**batch()).loss.backward()
    mask = read_mask(mask_file)
    for name, p in tuned.named_parameters():
        inside = (
            torch.from_numpy(mask.read(name))
            if name in mask.tensors
            else torch.zeros(p.shape, dtype=torch.bool)
        )
        assert not p.grad[~inside].any()
        assert name not in mask.tensors or not inside.any() or p.grad[inside].any()


def test_removed_hooks_free_the_model(model, mask_file):
    tuned = fresh(model)
    optimizer = OPTIMIZERS["adamw"](tuned.parameters())
    for handle in train_only(tuned, optimizer, read_mask(mask_file)):
        handle.remove()
    tuned(**batch()).loss.backward()
    optimizer.step()
    assert not torch.equal(tuned.model.norm.weight, model.model.norm.weight)


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_a_trainer_moves_the_mask_alone(model, mask_file, tmp_path, optim):
    tuned = fresh(model)
    rows = batch(32)
    data = Dataset.from_list([{k: v[i].tolist() for k, v in rows.items()} for i in range(32)])
    arguments = TrainingArguments(
        str(tmp_path), max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-2,
        weight_decay=0.5, optim=optim, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        optim_args="momentum=0.9" if optim == "sgd" else None, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        tuned, arguments, train_dataset=data, callbacks=[SubnetworkCallback(mask_file)]
    )
    trainer.train()
    check(model, tuned, mask_file)


def test_a_mask_of_another_model_is_refused(mask_file):
    other = models.new(128, 1, seed=0)
    with pytest.raises(RequestError, match="mask of another model"):
        train_only(other, torch.optim.SGD(other.parameters(), lr=1e-3), read_mask(mask_file))
    with pytest.raises(RequestError, match="mask of another model"):
        train_only(
            torch.nn.Linear(3, 3), torch.optim.SGD([torch.zeros(1)], lr=1e-3), read_mask(mask_file)
        )


class Odd(torch.nn.Module):
    """A scalar parameter, a buffer, a tied weight and a sparse gradient."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.embed = torch.nn.Embedding(10, 4, sparse=True)
        self.left = torch.nn.Linear(4, 4)
        self.right = torch.nn.Linear(4, 4)
        self.right.weight = self.left.weight
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, words):
        return (self.right(self.left(self.embed(words))) * self.scale - self.mean).square().sum()


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_scalars_buffers_ties_and_sparse_gradients_keep_to_the_mask(tmp_path, prefix):
    torch.manual_seed(0)
    odd, draw = Odd(), np.random.default_rng(0)
    shapes = {n: tuple(p.shape) for n, p in odd.named_parameters()} | {"mean": (4,)}
    shapes["right.weight"] = shapes.pop("left.weight")  # by its other name
    bits = {prefix + name: np.asarray(draw.random(shape) < 0.5) for name, shape in shapes.items()}
    masks.keep(tmp_path / "m.safetensors", iter(bits.items()), key="k", base=[], threshold=0.0)
    before = {name: p.detach().clone() for name, p in odd.named_parameters(remove_duplicate=False)}
    optimizer = torch.optim.SGD(odd.parameters(), lr=1e-2, momentum=0.9, weight_decay=0.1)
    train_only(odd, optimizer, read_mask(tmp_path / "m.safetensors"))
    for _ in range(2):
        odd(torch.arange(10)).backward()
        optimizer.step()
    for name, p in odd.named_parameters(remove_duplicate=False):
        moved = (p.detach() != before[name]).numpy()
        allowed = bits[prefix + ("right.weight" if name == "left.weight" else name)]
        assert np.array_equal(moved, allowed), name
