"""What the sample cost: of each of its images turns, tokens and bytes, and the seconds in all."""

import json
from collections import Counter
from dataclasses import dataclass, field

from c3l_ray.config import Pools
from c3l_ray.errors import C3LError, TooManyFailures
from c3l_ray.planning.sample import Sample
from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Record, error_reason


@dataclass(frozen=True, kw_only=True)
class SampleRun:
    """What was measured on sampled images, one element for each of them in every list.

    Attributes:
        shards: the source of each image.
        turns, usable_turns: of each image; none of one that cannot be read.
        tokens: generated for each image.
        record_bytes: of the output, by image: its share of the sample's file.
        reasons: images that failed or hold no image, by the first word of their error.
        example: the whole error of one of them.
        run: images that went to the models; the others cannot be read.
        generate_s, score_s: in which one generator and one scorer did all of them.
        boot_s: until the first of them was begun.
        pools: the processes that did it, with the GPUs of each.
    """

    shards: list[str]
    turns: list[int]
    usable_turns: list[int]
    tokens: list[int]
    record_bytes: list[float]
    reasons: dict[str, int] = field(default_factory=dict)
    example: str | None = None
    run: int
    generate_s: float
    score_s: float
    boot_s: float
    pools: Pools

    @property
    def images(self) -> int:
        return len(self.shards)


def measure_sample(
    sample: Sample, folder: RunFolder, boot_s: float, pools: Pools, *, keeps_images: bool
) -> SampleRun:
    """What a finished run over the sample measured.

    Args:
        sample: that was run.
        folder: of the run, whose keys are rows of the sample.
        boot_s: seconds until its first image was begun.
        pools: the processes that ran it.
        keeps_images: whether records hold the images.

    Raises:
        TooManyFailures: no image gave a token, so that nothing can be said of the others.
        C3LError: the run's files are not those of a whole run.
    """
    num_images = len(sample.shards)
    turns, usable, tokens = [0] * num_images, [0] * num_images, [0] * num_images
    errors: list[str | None] = sample.rows["error"].to_pylist()
    texts_bytes = [len(error or "") for error in errors]
    image_bytes = [len(image or b"") for image in sample.rows["image"].to_pylist()]
    file_bytes = 0
    seconds: Counter[str] = Counter()
    done: list[int] = []
    for manifest in read_manifests(folder):
        seconds.update(manifest.counts.seconds)
        if manifest.file is None:
            continue
        file_bytes += len((folder.location / manifest.file).read())
        records: list[Record] = read_records(folder, manifest).to_pylist()
        for record in records:
            row = int(record["key"])
            done.append(row)
            turns[row] = len(record["turns"])
            usable[row] = sum(turn["status"] == "ok" for turn in record["turns"])
            tokens[row] = sum(turn["num_tokens"] or 0 for turn in record["turns"])
            errors[row] = record["error"]
            texts_bytes[row] = len(json.dumps({**record, "image": None}))
    if sorted(done) != sample.readable:
        raise C3LError(f"the sample has {len(sample.readable)} images to run, and {len(done)} ran")
    failed = [error for error in errors if error is not None]
    if not sum(tokens):
        raise TooManyFailures(
            f"none of the {num_images} sampled images gave a turn, so that nothing can be said of "
            f"the others, for example {failed[0] if failed else 'for no known reason'}"
        )
    kept_bytes = image_bytes if keeps_images else [0] * num_images
    raw = [texts + image for texts, image in zip(texts_bytes, kept_bytes, strict=True)]
    scale = file_bytes / sum(raw[row] for row in done)
    return SampleRun(
        shards=sample.shards,
        turns=turns,
        usable_turns=usable,
        tokens=tokens,
        record_bytes=[scale * size for size in raw],
        reasons=dict(Counter(map(error_reason, failed)).most_common()),
        example=failed[0] if failed else None,
        run=len(done),
        generate_s=seconds["generate"],
        score_s=seconds["score"],
        boot_s=boot_s,
        pools=pools,
    )
