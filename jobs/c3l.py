"""Runs C3L whole: images in, a dataset of their best turns out, by a generator
tuned on the way.

    python -m jobs.c3l --input s3://bucket/shards --output s3://bucket/c3l \\
        --model.name llava-hf/llava-1.5-7b-hf --pools.generators 8 --training.workers.num 8

The stages (arXiv 2405.12752) are folders of the output, and each is a job of
its own:

    round-0/  the model writes turns and scores them        jobs.generate
    train-0/  the model learns an image's best turn
              against its others                            jobs.train
    round-1/  the tuned model writes the turns anew; the
              model as it came scores them                  jobs.generate
    dataset/  the turns of the last round that rank highest jobs.select

--rounds 2 trains and generates once more, starting from the tuned model.
--objective answers --answers 6 departs from the paper: the model answers each
of its questions six times more, and learns the best answer to each. On scenes
that makes its turns truer, and the contrast of turns does not.
run.json names the stages; each stage has a run.json of its own. report.html
shows all of it (jobs.report).

Interrupted jobs resume in the stage where they were: run the same command
again. The job runs on the Ray cluster that RAY_ADDRESS names, or starts one on
this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than
--max-failed-share, 5 stopped by --max-hours or --max-price, 130 by Ctrl-C, 143
by SIGTERM, 1 any other failure. A second signal ends the job at once.
"""

from typing import TYPE_CHECKING

from c3l_ray.workflows.c3l_config import C3LConfig
from jobs.command_line import main

if TYPE_CHECKING:
    from c3l_ray.runs.report import RecordsReport
    from c3l_ray.workflows.training_report import TrainingReport


def run(config: C3LConfig) -> None:
    """Runs the job and prints what each stage did."""
    from c3l_ray.workflows.c3l import run_c3l
    from c3l_ray.workflows.report import describe_report
    from c3l_ray.workflows.summaries import summarize_c3l, summarize_stage

    def print_stage(name: str, report: "RecordsReport | TrainingReport") -> None:
        print(summarize_stage(report, f"{config.output}/{name}"), flush=True)

    print(summarize_c3l(run_c3l(config, print_stage), config.output), flush=True)
    print(describe_report([config.output]))


def run_command(program: str = "python -m jobs.c3l") -> None:
    main(C3LConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
