"""Write the weights of a training as checkpoints that are whole or not there, and have them
compared by a process of its own.
"""

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import save_file

from opdviz import files, jobs
from opdviz.errors import MachineError, RequestError
from opdviz.runs.trajectory import STEP_FOLDER, steps_below
from opdviz.store.store import Store

WEIGHTS, CONFIG, BASE = "model.safetensors", "config.json", "base"


class Recorder:
    """The weights of one training, step by step, in a folder of its own.

    Without `base`, a checkpoint, the weights of `model` as they are now are the base. The folder is
    locked while the recorder is open; the process that compares ends when it is closed, or when
    this process dies, after the steps that are there. `seconds` is what recording has taken from
    the training.
    """

    def __init__(
        self,
        folder: str | Path,
        model: torch.nn.Module,
        *,
        base: str | Path | None = None,
        cache: str | Path | None = None,
        workers: int = 1,
        recipe: str = "",
        optimizer: str = "",
    ):
        self.folder, self.seconds, self.steps = Path(folder).absolute(), 0.0, 0
        of_each = {"recipe": recipe, "optimizer": optimizer}
        request = jobs.Request(
            base=str(self.folder / BASE if base is None else base),
            tuned=(str(self.folder),),
            of_each={option: (text,) for option, text in of_each.items() if text},
            workers=workers,
            follow=True,
            time=time.time(),
        )
        root = Path(cache or os.environ.get("OPDVIZ_CACHE") or "cache").absolute()
        with ExitStack() as opening:  # what fails here holds nothing
            opening.enter_context(files.lock(self.folder))
            for leftover in self.folder.glob(f".*{files.TEMPORARY}"):
                shutil.rmtree(leftover, ignore_errors=True)
            if base is None:
                self.start_from(model)
            self.job = jobs.start_request(Store(root), request)
            self.closing = opening.pop_all()

    def start_from(self, model: torch.nn.Module) -> None:
        """Write the weights as the base.

        Raises
            RequestError: the folder has steps, which are of another base.
        """
        base = self.folder / BASE
        if steps_below(self.folder):
            raise RequestError(
                f"Recorder({self.folder}): found steps of an earlier training; name another folder,"
                f" or base={str(base)!r} to go on with it."
            )
        self.write(model, base)

    def record(self, model: torch.nn.Module, step: int) -> None:
        """Write the weights as those after a step; it blocks until they are written.

        Raises
            RequestError: the recorder is closed.
            MachineError: the disk is full; nothing half-written stays.
        """
        if not files.running(self.folder):
            raise RequestError(f"record({step}): the recorder is closed; open another.")
        self.write(model, self.folder / STEP_FOLDER.format(step))
        self.steps += 1

    def write(self, model: torch.nn.Module, into: Path) -> None:
        """Write the weights, and the configuration of a model that has one, as a checkpoint."""
        started = time.monotonic()
        try:
            with files.new_folder(into) as folder:
                save_file(weights_of(model), folder / WEIGHTS, metadata={"format": "pt"})
                if hasattr(config := getattr(model, "config", None), "to_json_string"):
                    (folder / CONFIG).write_text(config.to_json_string())
        except OSError as error:
            raise MachineError(
                f"record({into.name}): {error.strerror or error}; the steps before are kept."
            ) from None
        self.seconds += time.monotonic() - started

    def close(self, *, wait: bool = False) -> None:
        """End the recording; with `wait`, return when every step is compared."""
        self.closing.close()
        while wait and jobs.load(self.job.folder).state == "running":
            time.sleep(0.2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's tensors on the CPU, each in storage of its own; of tied ones the first name."""
    tensors: dict[str, torch.Tensor] = {}
    places = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in places:
            continue
        places.add(place)
        tensor = tensor.detach().cpu().contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        tensors[name] = tensor if whole else tensor.clone()
    return tensors
