"""Which reader reads a weight file: by its ending.

A reader is a module with `headers(path)`, which gives the tensors of a file, notes and aliases
without reading data, and `read(info, first, last)`, which gives rows of one tensor as they are
stored.
"""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

# by name: a reader may import torch, which costs a second and 200 MB a process
READERS = {
    ".safetensors": "safetensors",
    ".bin": "torch_file",
    ".pt": "torch_file",
    ".pth": "torch_file",
}
ENDINGS = tuple(READERS)
# In the environment, for network disks: tensors are asked for in the order of their files, by plain
# reads, which such disks answer at their full speed; a map asks them page by page.
SEQUENTIAL = "OPDVIZ_SEQUENTIAL"
# A folder of torch.distributed.checkpoint: what says where pieces lie, and the pieces.
METADATA, PIECES = ".metadata", ".distcp"
# What FSDP leaves, a file a rank: together they are the weights.
RANKS = re.compile(r"model_world_size_(?P<world>[0-9]{1,5})_rank_(?P<rank>[0-9]{1,5})\.pt")


def reader_of(path: Path) -> ModuleType:
    """The reader of a file with one of the known endings, or of a rank."""
    if RANKS.fullmatch(path.name):
        name = "dtensor"
    elif path.name == METADATA or path.suffix == PIECES:
        name = "dcp"
    else:
        name = READERS[path.suffix]
    return import_module(f"opdviz.checkpoint.{name}")
