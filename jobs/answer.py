"""Samples more answers to the questions of turns that are there, and scores all
of them.

    python -m jobs.answer --input s3://bucket/run --output s3://bucket/answers \\
        --model.name llava-hf/llava-1.5-7b-hf --answers 6

Reads what jobs.score reads: LLaVA JSON, Parquet of turns, or an earlier run.
The turns keep their text. Each usable question goes to the model again: one
that jobs.generate wrote after the instruction that asked for it, one made
elsewhere as it stands, after the turns before it where it follows them. The
answers become the turn's alternatives, equal ones as one. jobs.generate
--answers does the same for the turns that it writes.

Interrupted jobs resume: run the same command again. The job runs on the Ray
cluster that RAY_ADDRESS names, or starts one on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than
--max-failed-share, 5 stopped by --max-hours or --max-price, 130 by Ctrl-C, 143
by SIGTERM, 1 any other failure. A second signal ends the job at once.
"""

from c3l_ray.answer_config import AnswerConfig
from jobs.command_line import main


def run(config: AnswerConfig) -> None:
    """Runs the job and prints what it did."""
    from c3l_ray.workflows.answer import answer_questions
    from c3l_ray.workflows.records import check_failures
    from c3l_ray.workflows.summaries import summarize_records

    report = answer_questions(config)
    print(summarize_records(report, config.output))
    check_failures(report, config.max_failed_share)


def run_command(program: str = "python -m jobs.answer") -> None:
    main(AnswerConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
