"""Scores question-answer turns that were made elsewhere.

    python -m jobs.score --input llava_v1_5_mix665k.json --layout.image-root playground/data \\
        --output s3://bucket/scored --scorer.name llava-hf/llava-1.5-7b-hf --pools.scorers 8

Reads
  LLaVA JSON      a list of samples, or .jsonl with one on each line: `image`
                  (or `images`) names a file, `conversations` (or `messages`)
                  holds the messages; `meta` keeps the whole sample
  Parquet         a column of images, and either a column of lists of
                  {question, answer}, {from, value} or {role, content}, or two
                  columns, question and answer
  an earlier run  its output folder, whose records keep their ids and sources

Writes records as jobs.generate does. An answer is scored given the turns
before it where they are messages of one conversation (--layout.history). No
sample is dropped: one without an image becomes a record of status text_only,
and a turn that cannot be scored has a status that says why. The marker <image>
is removed from questions, for the chat template of the scorer places the
image.

Interrupted jobs resume: run the same command again. The job runs on the Ray
cluster that RAY_ADDRESS names, or starts one on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than
--max-failed-share, 5 stopped by --max-hours or --max-price, 130 by Ctrl-C, 143
by SIGTERM, 1 any other failure. A second signal ends the job at once.
"""

from c3l_ray.config import ScoreConfig
from jobs.command_line import main


def run(config: ScoreConfig) -> None:
    """Runs the job and prints what it did."""
    from c3l_ray.workflows.records import check_failures
    from c3l_ray.workflows.score import score_turns
    from c3l_ray.workflows.summaries import summarize_records

    report = score_turns(config)
    print(summarize_records(report, config.output))
    check_failures(report, config.max_failed_share)


def run_command(program: str = "python -m jobs.score") -> None:
    main(ScoreConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
