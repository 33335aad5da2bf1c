"""Writes a model as ranks of FSDP leave it, by that many processes with gloo, a folder a kind:
`python -m tests.shards OUT WORLD`, where OUT/whole.pt has its tensors, and OUT/tuned.pt those of
another, whose folders lie in OUT/tuned.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

MESHES = {
    "fsdp": lambda world: ((world,), ("shard",)),
    "hsdp": lambda world: ((2, world // 2), ("copies", "shard")),
    "placed": lambda world: ((world,), ("shard",)),
}
# How tensors of `placed` lie: cut along the second axis, and copied.
PLACED = {"model.layers.0.mlp.up_proj.weight": Shard(1), "model.norm.weight": Replicate()}


class Model(torch.nn.Module):
    """Matrices whose rows no number of ranks divides, a norm, and a buffer."""

    def __init__(self, whole: dict[str, torch.Tensor]):
        super().__init__()
        for name, value in whole.items():
            path, _, last = name.rpartition(".")
            place = self
            for piece in path.split("."):
                if not hasattr(place, piece):
                    place.add_module(piece, torch.nn.Module())
                place = getattr(place, piece)
            if last == "inv_freq":
                place.register_buffer(last, value.clone())
            else:
                place.register_parameter(last, torch.nn.Parameter(value.clone()))


def write(rank: int, world: int, out: Path) -> None:
    """One rank's file of each kind."""
    dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=world)
    write_kinds(rank, world, torch.load(out / "whole.pt", weights_only=True), out)
    write_kinds(rank, world, torch.load(out / "tuned.pt", weights_only=True), out / "tuned")
    dist.barrier()
    dist.destroy_process_group()


def write_kinds(rank: int, world: int, whole: dict[str, torch.Tensor], out: Path) -> None:
    """One rank's file of each kind, of some tensors."""
    for kind, mesh_of in MESHES.items():
        shape, names = mesh_of(world)
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
        if kind == "placed":
            state = {
                name: distribute_tensor(value, mesh, [PLACED.get(name, Shard(0))])
                for name, value in whole.items()
            }
        else:
            model = Model(whole)
            fully_shard(model, mesh=mesh)
            state = model.state_dict()
        (out / kind).mkdir(exist_ok=True, parents=True)
        torch.save(state, out / kind / f"model_world_size_{world}_rank_{rank}.pt")
        # As trainers do, beside an optimizer's; and alone.
        rest = {"step": torch.tensor(7), "exp_avg": torch.ones(3)}
        together = state if kind == "placed" else {"model": state, "optim": rest}
        dcp.save(together, checkpoint_id=out / f"{kind}_dcp")


if __name__ == "__main__":
    folder, ranks = Path(sys.argv[1]), int(sys.argv[2])
    mp.spawn(write, (ranks, folder), nprocs=ranks)
