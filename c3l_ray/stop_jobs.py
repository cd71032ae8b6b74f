"""Asks the jobs of this machine to end, and waits for them: what a pod runs before it is deleted.

    python -m c3l_ray.stop_jobs 75

Kubernetes sends SIGTERM to the first process of a container alone, which is Ray's: a job that runs
beside it would be killed with the pod. See `cluster/kuberay/rayjob.yaml`.
"""

import contextlib
import sys
from collections.abc import Iterator

import psutil


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
    """The processes of this machine that are `python -m jobs.NAME ...`, or run one for KubeRay."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            program, *arguments = process.cmdline() or [""]
            is_module = "python" in program and arguments[:1] == ["-m"] and len(arguments) > 1
            if is_module and arguments[1].startswith(("jobs.", "c3l_ray.kuberay_job")):
                yield process


if __name__ == "__main__":
    sys.exit(stop_jobs(float(sys.argv[1])))
