"""Writes question-answer turns for images with a vision-language model, and
scores each of them.

    python -m jobs.generate --input s3://bucket/shards --output s3://bucket/run \\
        --model.name llava-hf/llava-1.5-7b-hf --pools.generators 8 --pools.scorers 4

Reads WebDataset tars, Parquet files with an image column, or folders of
images. Writes records/*.parquet, one row per image with its scored turns, and
run.json, which says what was done and what failed why. --method vigc writes
VIGC's kinds of turns and corrects every answer; --correct corrects the answers
of C3L's turns. --answers samples more answers to each question, as the turn's
alternatives. jobs.select makes a dataset of the best turns.

Interrupted jobs resume: run the same command again. The job runs on the Ray
cluster that RAY_ADDRESS names, or starts one on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than
--max-failed-share, 5 stopped by --max-hours or --max-price, 130 by Ctrl-C, 143
by SIGTERM, 1 any other failure. A second signal ends the job at once.
"""

from c3l_ray.config import GenerateConfig
from jobs.command_line import main


def run(config: GenerateConfig) -> None:
    """Runs the job and prints what it did."""
    from c3l_ray.workflows.generate import generate_records
    from c3l_ray.workflows.records import check_failures
    from c3l_ray.workflows.summaries import summarize_records

    report = generate_records(config)
    print(summarize_records(report, config.output))
    check_failures(report, config.max_failed_share)


def run_command(program: str = "python -m jobs.generate") -> None:
    main(GenerateConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
