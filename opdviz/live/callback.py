"""A callback for the trainers of `transformers` and `trl`."""

from pathlib import Path

from transformers import TrainerCallback

from opdviz.errors import RequestError
from opdviz.live.recorder import Recorder


class Callback(TrainerCallback):
    """Records the weights every so many steps, and at the end (`Recorder`, whose options it takes).

    At the end it prints what recording took of the training's time.
    """

    def __init__(self, folder: str | Path, *, every: int, **options):
        if every < 1:
            raise RequestError(f"live.Callback(every={every}): expected a number of steps from 1.")
        self.folder, self.every, self.options = folder, every, options
        self.recorder: Recorder | None = None
        self.last = 0

    def on_train_begin(self, args, state, control, *, model, **_) -> None:
        """Write the base, where none is named, and start the process that compares."""
        if args.fsdp or args.deepspeed:
            raise RequestError(
                "live.Callback: found FSDP or DeepSpeed, under which no process has the whole"
                " weights; let the trainer save, and run `opdviz compare BASE FOLDER --follow`."
            )
        if state.is_world_process_zero:
            self.recorder = Recorder(self.folder, model, **self.options)

    def on_step_end(self, args, state, control, *, model, **_) -> None:
        """Record, where it is time."""
        if self.recorder and state.global_step % self.every == 0:
            self.record(model, state.global_step)

    def on_train_end(self, args, state, control, *, model, **_) -> None:
        """Record the last step, and leave the rest to the process that compares."""
        if self.recorder is None:
            return
        if state.global_step > self.last:
            self.record(model, state.global_step)
        self.recorder.close()
        print(
            f"opdviz: {self.recorder.steps} steps recorded in {self.folder}, which took"
            f" {self.recorder.seconds:.1f} s of the training."
        )
        self.recorder = None

    def record(self, model, step: int) -> None:
        """Record a step."""
        self.recorder.record(getattr(model, "module", model), step)
        self.last = step
