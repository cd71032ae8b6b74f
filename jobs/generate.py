"""Writes scored question-answer turns for images: shards in, records out.

    python -m jobs.generate --input s3://bucket/shards --output s3://bucket/run \\
        --model.name llava-hf/llava-1.5-7b-hf --pools.generators 8

Each image gets M turns from the model, and each turn its scores: how likely its answer is with
the image and without it, how far the two beliefs lie apart (I2C), and CLIP's cosine. Records are
Parquet, one row an image; a bad image is a row that says why. Stopped at any time, the same
command goes on where it was. Runs on the cluster that RAY_ADDRESS names, else on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than --max-failed-share,
1 anything else.
"""

import dataclasses

from c3l_ray.config import GenerateConfig
from c3l_ray.runs.folder import Output
from c3l_ray.inputs.read import find_shards
from c3l_ray.inference.model_check import check_clip, check_vlm, reply_format
from c3l_ray.identity import digest, facts
from jobs.command_line import main
from c3l_ray.workflows.records import absolute, write_records


def generate(config: GenerateConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    config = absolute(config)
    found = find_shards(config.input, config.layout)
    output = Output(config.output)
    if config.scorer.name is None:
        print(f"scorer: {config.scorer_name}, the generator itself (--scorer.name)")
    model = check_vlm("--model.name", config.model.name)
    own = config.scorer_name == config.model.name
    identities = {
        "model": model,
        "scorer": model if own else check_vlm("--scorer.name", config.scorer_name),
        "clip": check_clip(config.clip.name, config.clip.weights),
    }
    if config.reply_format == "auto":
        config = dataclasses.replace(config, reply_format=reply_format(config.model.name))
    made_by = facts(config, **identities)
    output.claim(digest(made_by), made_by)
    from c3l_ray.distributed import cluster
    from c3l_ray.inference.turn_generator import Generate

    cluster.connect(config.pools.generators + config.pools.scorers)
    write_records(cluster.placed(config), found, made_by, output, generate=Generate)


if __name__ == "__main__":
    main(GenerateConfig, generate, __doc__ or "")
