"""`opdviz compare --follow`: the steps of a training are compared as they come."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opdviz.errors import MachineError, OpdvizError, RequestError, one_line

if TYPE_CHECKING:
    from opdviz.engine.progress import Display

WAITING = "waiting for the next step"


def follow(
    options: argparse.Namespace,
    compare_next: Callable[[list[Path]], list],
    listener: "Display",
) -> None:
    """Compare every step of the folder that `--follow` names, as soon as it is whole, until the
    training is over or somebody ends it. A step that cannot be compared is said and left out.
    """
    from opdviz.engine.progress import Progress
    from opdviz.runs.following import EVERY, Watch

    watch = Watch(folder_of(options))
    done = 0
    while True:
        over = watch.over  # before the look: what came before the end is not missed
        steps = watch.ready()
        try:
            if steps:
                outcomes = compare_next(steps)
                done += sum(not isinstance(one, OpdvizError) for one in outcomes)
                for failure in outcomes:
                    if isinstance(failure, OpdvizError):
                        print(f"left out: {one_line(failure, limit=600)}", file=sys.stderr)
        except MachineError:
            raise
        except OpdvizError as error:
            print(f"left out: {one_line(error, limit=600)}", file=sys.stderr)
        if over and not steps:
            return
        listener(Progress(f"{WAITING} ({done} compared)", 1.0))
        time.sleep(EVERY)


def folder_of(options: argparse.Namespace) -> Path:
    """The folder that is to be followed.

    Raises
        RequestError: there are several, it is none, or every run is to have a name.
    """
    folder, *more = options.tuned
    if more or options.name:
        what = "--name" if options.name else f"{1 + len(more)} folders"
        raise RequestError(
            f"compare --follow: found {what}; expected one folder of a training, whose steps are"
            " called by their folders."
        )
    if not folder.is_dir():
        raise RequestError(
            f"compare --follow {one_line(folder)}: found no such folder; expected that of a"
            " training, which may be empty."
        )
    return folder
