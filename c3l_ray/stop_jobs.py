"""Asks the jobs of this machine to end, and waits for them: what a pod runs before it is deleted.

    python -m c3l_ray.stop_jobs 75

Kubernetes sends SIGTERM to the first process of a container alone, which is Ray's: a job that runs
beside it would be killed with the pod. See `cluster/kuberay/rayjob.yaml`.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePath

import psutil

SCRIPT = "c3l-ray"
"""The console script of all jobs."""
OPTIONS_WITH_VALUE = ("-X", "-W")
"""Of Python, with a value that follows as a word of its own."""


def stop_jobs(wait_s: float) -> int:
    """Sends SIGTERM to every job that runs here, and waits until they have ended.

    Args:
        wait_s: seconds that they have.

    Returns:
        How many have not ended by then.
    """
    jobs = list(find_jobs())
    for job in jobs:
        with contextlib.suppress(psutil.NoSuchProcess):
            job.terminate()
    _, left = psutil.wait_procs(jobs, timeout=wait_s)
    return len(left)


def find_jobs() -> Iterator[psutil.Process]:
    """The processes of this machine that run a job, or run one for KubeRay."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if is_job(process.cmdline()):
                yield process


def is_job(command: Sequence[str]) -> bool:
    """Whether a command is `python -m jobs.NAME ...` or `c3l-ray NAME ...`, which Python runs."""
    program, *arguments = command or [""]
    if "python" not in program:
        return False
    while arguments and arguments[0].startswith("-") and arguments[0] != "-m":  # as in python -u
        del arguments[: 2 if arguments[0] in OPTIONS_WITH_VALUE else 1]
    match arguments:
        case ["-m", module, *_]:
            return module.startswith(("jobs.", "c3l_ray.kuberay_job"))
        case [script, _, *_]:
            return PurePath(script).name == SCRIPT
    return False


def parse_seconds(text: str) -> float:
    """Seconds to wait.

    Raises:
        argparse.ArgumentTypeError: they are no number from 0 on.
    """
    with contextlib.suppress(ValueError):
        if (seconds := float(text)) >= 0 and math.isfinite(seconds):
            return seconds
    raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text}")


def main() -> None:
    """Ends with as many jobs as have not ended."""
    parser = argparse.ArgumentParser(
        prog="python -m c3l_ray.stop_jobs",
        description="Sends SIGTERM to every job of this machine, and waits until they have ended.",
        epilog="Exit status: how many have not ended by then.",
    )
    parser.add_argument("seconds", type=parse_seconds, help="that they have, such as 75")
    sys.exit(stop_jobs(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
