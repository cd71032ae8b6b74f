"""Says where a running or dead job stands, from a second terminal.

    python -m jobs.status s3://bucket/run --watch

Reads the output folder of jobs.generate, jobs.score, jobs.train or jobs.c3l,
with each of its stages: state, images or steps done, speed, time left, failures
by reason, and when the job last wrote. It reads run.json, and the manifests
where run.json is old, as after a kill. It writes nothing.

Exit status: 0 shown, 2 no such run, 130 stopped by Ctrl-C, 143 by SIGTERM, 1
any other failure.
"""

import datetime
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.command_line import main

WATCH_EVERY_S = 10.0
CLEAR_SCREEN = "\033[H\033[2J"


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Show where a run stands."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Output folder of a job, local or s3://."""
    watch: bool = False
    """Show it anew every 10 seconds, until the job has ended."""


def run(config: StatusConfig) -> None:
    """Prints where the run stands, once or until it has ended.

    Raises:
        PreflightError: the folder is no run.
    """
    from c3l_ray.runs.folder import RunFolder
    from c3l_ray.runs.status import format_statuses, read_statuses

    folder = RunFolder.open(config.run, "RUN")
    while True:
        statuses = read_statuses(folder, datetime.datetime.now(datetime.UTC))
        clear = CLEAR_SCREEN if config.watch and sys.stdout.isatty() else ""
        print(clear + format_statuses(statuses), flush=True)
        if not config.watch or statuses[0].state not in ("begun", "running"):
            return
        time.sleep(WATCH_EVERY_S)


def run_command(program: str = "python -m jobs.status") -> None:
    main(StatusConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
