"""Scores turns that were made elsewhere: LLaVA's JSON or Parquet in, records out.

    python -m jobs.score --input llava_v1_5_mix665k.json --layout.image-root playground/data \\
        --output s3://bucket/scored --scorer.name llava-hf/llava-1.5-7b-hf --pools.scorers 8

Read are
  LLaVA JSON     a list of samples, or .jsonl with one a line: `image` (or `images`) names a
                 file, `conversations` (or `messages`) holds who said what; the whole sample is
                 kept as `meta`
  Parquet        a column of images, and either a column of lists of {question, answer},
                 {from, value} or {role, content}, or two columns, question and answer
  an earlier run its output folder, to score its records anew; ids and sources stay

An answer is scored given the turns before it where they follow one another, as in a conversation
(--layout.history). Nothing is dropped: a sample without an image is a record of status text_only,
a bad image is one that says why, and a turn that cannot be scored has a status of its own: empty,
unanswered (no answer), unasked (no question), stranded (after an unusable turn), unparsable (no
such role), refused (the scorer cannot read it as it is). The marker <image> is taken out of the
question; the scorer's chat template says where the image goes. jobs.select ranks what comes out.
Stopped at any time, the same command goes on where it was. Runs on the cluster that RAY_ADDRESS
names, else on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than --max-failed-share,
1 anything else.
"""

from c3l_ray.config import ScoreConfig
from c3l_ray.runs.folder import Output
from c3l_ray.inputs.read import find_shards
from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_clip, check_vlm
from c3l_ray.identity import digest, score_facts
from jobs.command_line import main
from c3l_ray.workflows.records import absolute, write_records


def score(config: ScoreConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    config = absolute(config)
    found = find_shards(config.input, config.layout)
    for shard in found:
        if shard.format not in ("llava", "parquet"):
            raise PreflightError(
                f"--input {shard.path}: a {shard.format} of images holds no turns; this job reads "
                "LLaVA .json and Parquet, and jobs.generate writes turns for images"
            )
    output = Output(config.output)
    made_by = score_facts(
        config,
        scorer=check_vlm("--scorer.name", config.scorer_name),
        clip=check_clip(config.clip.name, config.clip.weights),
    )
    output.claim(digest(made_by), made_by)
    from c3l_ray.distributed import cluster

    cluster.connect(config.pools.scorers)
    write_records(cluster.scorers_placed(config), found, made_by, output, generate=None)


if __name__ == "__main__":
    main(ScoreConfig, score, __doc__ or "")
