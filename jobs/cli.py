"""One command for all jobs: `c3l-ray generate ...` is `python -m jobs.generate ...`."""

import importlib
import sys

JOBS = {
    "plan": "say what a run of generate will cost, before it begins",
    "generate": "write question-answer turns for images, and score them",
    "score": "score turns that were made elsewhere",
    "answer": "sample more answers to questions that are there, and score them",
    "select": "keep the turns that rank highest, as a dataset",
    "train": "tune a model on scored turns",
    "c3l": "generate, train, generate again and select",
    "status": "say where a run stands, from a second terminal",
    "failed": "list the images of a run that failed",
    "report": "show what jobs made as one HTML page",
    "evaluate": "compare runs over scenes whose truth is known",
    "demo": "run c3l on a small world that comes with the package",
}


def main() -> None:
    """Runs the job that the first argument names, with the others as its flags."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return
    job = arguments[0]
    if job not in JOBS:
        print(f"error: no job is called {job!r}\n\n{_help()}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [sys.argv[0], *arguments[1:]]
    importlib.import_module(f"jobs.{job}").run_command(f"c3l-ray {job}")


def _help() -> str:
    jobs = "\n".join(f"  {name:<10} {purpose}" for name, purpose in JOBS.items())
    return f"usage: c3l-ray JOB [FLAGS]\n\n{jobs}\n\n`c3l-ray JOB --help` explains a job's flags."
