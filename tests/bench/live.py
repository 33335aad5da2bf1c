"""What following a training costs it: the same steps of a transformers Trainer with the callback and
without, in turn, `python -m tests.bench.live [HIDDEN] [STEPS] [EVERY]`.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from datasets import Dataset
from transformers import Trainer, TrainingArguments

from opdviz import jobs, live
from opdviz.lab import models, tasks
from opdviz.store.store import Store

TURNS = 3
LAYERS, BATCH = 4, 64


def trained(folder: Path, hidden: int, steps: int, every: int | None) -> dict[str, float]:
    """Seconds of one training, and of what its callback did in it."""
    model = models.new(hidden, LAYERS, seed=0)
    problems = tasks.distinct("addition", "train", "bench", 512)
    texts = [problem.prompt + problem.answer for problem in problems]
    words = models.tokenizer()(texts, padding=True).input_ids
    rows = Dataset.from_list([{"input_ids": row, "labels": row} for row in words])
    arguments = TrainingArguments(
        str(folder / "out"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    callbacks = [live.Callback(folder / "run", every=every, cache=folder / "c")] if every else []
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
    recorded = {}

    def note(*_, **__) -> None:
        recorded["seconds"] = callbacks[0].recorder.seconds

    if callbacks:
        close = callbacks[0].on_train_end
        callbacks[0].on_train_end = lambda *a, **k: (note(), close(*a, **k))
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    if callbacks:
        (job,) = jobs.all_jobs(Store(folder / "c"))
        while jobs.load(job.folder).state == "running":
            time.sleep(0.2)
    return {"training": seconds, "recording": recorded.get("seconds", 0.0)}


def main(hidden: int = 256, steps: int = 120, every: int = 30) -> None:
    """Print medians of the turns as one JSON value."""
    times: dict[str, list[dict[str, float]]] = {"alone": [], "followed": []}
    for _ in range(TURNS):
        for name, rows in times.items():
            with tempfile.TemporaryDirectory() as folder:
                rows.append(
                    trained(Path(folder), hidden, steps, every if name == "followed" else None)
                )
    alone = statistics.median(row["training"] for row in times["alone"])
    followed = statistics.median(row["training"] for row in times["followed"])
    recording = statistics.median(row["recording"] for row in times["followed"])
    facts = {
        "parameters": sum(p.numel() for p in models.new(hidden, LAYERS, seed=0).parameters()),
        "steps": steps,
        "every": every,
        "alone_s": round(alone, 2),
        "followed_s": round(followed, 2),
        "ratio": round(followed / alone, 3),
        "recording_share": round(recording / followed, 4),
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
