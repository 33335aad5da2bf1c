"""Follow a training while it goes on.

Every so many steps its weights are written as a checkpoint, and a process of its own compares each
with the base: the dashboard's trajectory grows while training does.

    from opdviz import live

    trainer = Trainer(..., callbacks=[live.Callback("runs/opd", every=50)])

    with live.Recorder("runs/opd", model) as recorder:          # a loop of one's own
        for step, batch in enumerate(batches, start=1):
            ...
            if step % 50 == 0:
                recorder.record(model, step)

Sharded training (FSDP, DeepSpeed) has no whole weights in one process: `opdviz compare BASE FOLDER
--follow` follows the checkpoints that its trainer saves.
"""

from importlib import import_module

PUBLIC = {"Recorder": "opdviz.live.recorder", "Callback": "opdviz.live.callback"}


def __getattr__(name: str) -> object:
    """A public name, from the module where it stands: torch and transformers load with it."""
    if name not in PUBLIC:
        raise AttributeError(
            f"module 'opdviz.live' has no attribute {name!r}; there are: {', '.join(PUBLIC)}."
        )
    return getattr(import_module(PUBLIC[name]), name)
