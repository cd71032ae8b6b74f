"""Keeps the turns that rank highest: records in, a dataset to train on out.

    python -m jobs.select --input s3://bucket/run --output s3://bucket/dataset --top 0.1 --by i2c

Writes part-*.parquet (the records' own columns, with the chosen turns only), llava.json in LLaVA's
conversation format with its images/, and selection.json, which says what was chosen and how.
--group image makes one sample of all the chosen turns of an image. --by random, --by clip and
--by image_logprob are the controls that a score should beat.
"""

from c3l_ray.config import SelectConfig
from c3l_ray.dataset import select
from jobs.command_line import main


def run(config: SelectConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    chosen = select.select(config)
    if not chosen["finished_input"]:
        print(f"note: the run in {config.input} is not finished; this is of what it has so far")
    threshold = chosen["threshold"]
    print(
        f"selected {chosen['turns']} of {chosen['turns_scored']} scored turns "
        f"({chosen['images']} images) by {config.by}"
        + ("" if threshold is None else f", from {threshold:.4g} up")
        + f"\n  dataset  {chosen['output']}/part-*.parquet"
        f"\n  LLaVA    {chosen['output']}/llava.json"
        f"\n  report   {chosen['output']}/selection.json"
    )


if __name__ == "__main__":
    main(SelectConfig, run, __doc__ or "")
