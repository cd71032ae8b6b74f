"""Keeps the turns of a run that rank highest, as a dataset to train on.

    python -m jobs.select --input s3://bucket/run --output s3://bucket/dataset --top 0.1 --by i2c

Reads the output folder of jobs.generate or jobs.score. Writes Parquet files to
data/, a row for each chosen turn with its image and messages, as the datasets
library, TRL and ms-swift read them; README.md, a dataset card; and
selection.json, which says what was chosen and how. --group image makes one row
of all the chosen turns of an image, --export preference pairs of a better and a
worse answer. --llava adds LLaVA's conversation format. A useful score selects
better turns than the controls --by random, --by clip and --by image_logprob do.

Exit status: 0 finished, 2 refused before the start, 130 stopped by Ctrl-C, 143
by SIGTERM, 1 any other failure.
"""

from c3l_ray.select_config import SelectConfig
from jobs.command_line import AFRESH, main


def run(config: SelectConfig) -> None:
    """Runs the job and prints what it did."""
    from c3l_ray.dataset.select import select_turns
    from c3l_ray.workflows.summaries import summarize_selection

    print(summarize_selection(select_turns(config)))


def run_command(program: str = "python -m jobs.select") -> None:
    main(SelectConfig, run, __doc__, program, again=AFRESH)


if __name__ == "__main__":
    run_command()
