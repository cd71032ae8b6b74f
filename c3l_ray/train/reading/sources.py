"""What a training learns from: the records of a run, or a LLaVA dataset as it lies."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from c3l_ray.config import TurnsLayout
from c3l_ray.train.reading import llava_source, scan
from c3l_ray import storage
from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.train.reading.llava_source import Conversations
from c3l_ray.errors import PreflightError
from c3l_ray.schema import GIVEN
from c3l_ray.train.reading import examples, mixture, order
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.reading.mixture import Set
from c3l_ray.train.reading.order import Part


@dataclass(frozen=True, kw_only=True)
class Source:
    """Records, wherever they come from.

    Attributes:
        origin: of the run that made them; empty for a dataset.
        digests: of what is in its files.
        run: that made them, with its files; None for a dataset.
        texts: the records without their images, file by file.
        read: rows of a file, by its name and their numbers.
    """

    origin: str
    digests: list[str]
    run: tuple[Output, list[Manifest]] | None = None
    texts: Callable[[], scan.Scanned]
    read: Callable[..., list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What of a source is learnt from, as `train.stream.Data` has it."""

    parts: tuple[Part, ...]
    held_out: tuple[Part, ...]
    standings: examples.Standings
    sets: tuple[Set, ...] = ()


def source_of(config: TrainConfig) -> Source:
    """What --input names.

    Raises:
        PreflightError: it cannot be learnt from.
    """
    if config.traits.mixes and config.input and llava_source.are(config.input):
        layout = TurnsLayout(image_root=config.layout.image_root, history=config.layout.history)
        dataset = Conversations(config.input, layout)
        return Source(
            origin="", digests=dataset.digests(), texts=dataset.scanned, read=dataset.read
        )
    if len(config.input) != 1:
        raise PreflightError(f"--input {' '.join(config.input)}: must be the output folder of one run")
    output = Output(config.input[0], "--input")
    run = _run_of(output)
    manifests = [manifest for manifest in output.manifests() if manifest.file]
    return Source(
        origin=run.get("origin", ""),
        digests=[scan.named(manifest) for manifest in manifests],
        run=(output, manifests),
        texts=functools.partial(scan.texts, output, manifests),
        read=functools.partial(scan.read, output),
    )


def learnt_from(source: Source, config: TrainConfig) -> Learnt:
    """The rows to learn from, those held out, and what they are ordered and labelled by.

    Raises:
        PreflightError: fewer images than a batch can be learnt from, or sets that cannot be mixed.
    """
    found = _mixed(source, config) if config.traits.mixes else _whole(source, config)
    images = order.num_images(found.parts)
    if images < config.optim.batch_size:
        raise PreflightError(
            f"--input {' '.join(config.input)}: {images} images to learn from, fewer than "
            f"--optim.batch-size {config.optim.batch_size}; an image needs {config.traits.needs}"
        )
    return found


def _whole(source: Source, config: TrainConfig) -> Learnt:
    """Whole records, each once an epoch."""
    assert source.run is not None
    by = "i2c" if config.positive_by == "random" else config.positive_by
    standings = {}
    if config.objective == "c3l" and config.within == "kind":
        standings = scan.standings(*source.run, by)
    learn, held_out = scan.rows(
        *source.run,
        functools.partial(examples.usable, config=config, standings=standings),
        scores=sorted({by, "gain"}),
        held_out=config.progress.held_out,
        max_held_out=config.progress.max_held_out,
    )
    return Learnt(parts=_parts(learn), held_out=_parts(held_out), standings=standings)


def _mixed(source: Source, config: TrainConfig) -> Learnt:
    """Single turns of records, in their sets."""
    sources = set()

    def sets(record: dict[str, Any]) -> dict[int, str]:
        if any(turn["kind"] == GIVEN for turn in record["turns"]):
            sources.add(record["source"])
        return examples.candidates(record, config.mixture)

    turns, held_out = scan.turns(
        source.texts(),
        sets,
        held_out=config.progress.held_out,
        max_held_out=config.progress.max_held_out,
    )
    config.mixture.check(turns, sources)
    rows: dict[str, set[int]] = {}
    for name, row, _ in (turn for its in turns.values() for turn in its):
        rows.setdefault(name, set()).add(row)
    numbers = {name: number for number, name in enumerate(sorted(rows))}
    return Learnt(
        parts=_parts([(name, tuple(sorted(rows[name]))) for name in numbers]),
        held_out=_parts(held_out),
        standings={},
        sets=tuple(
            Set.of(name, [(numbers[file], row, place) for file, row, place in its])
            for name, its in turns.items()
        ),
    )


def mixed(found: Learnt, config: TrainConfig) -> dict[str, dict[str, Any]]:
    """For each set its number of turns and its share of the draws, for people to read."""
    sizes = [len(each.turns) for each in found.sets]
    shares = mixture.shares(sizes, config.mixture.by)
    return {
        each.name: {"turns": size, "share": round(share, 4)}
        for each, size, share in zip(found.sets, sizes, shares, strict=True)
    }


def _parts(rows: scan.Rows) -> tuple[Part, ...]:
    return tuple(Part(name=name, rows=its) for name, its in rows)


def _run_of(source: Output) -> dict[str, Any]:
    """run.json of the records.

    Raises:
        PreflightError: there is none, or its records hold no images.
    """
    try:
        run: dict[str, Any] | None = source.read_json("run.json")
    except storage.ERRORS as error:
        raise PreflightError(f"--input {source.path}: cannot be read: {error}") from error
    if run is None:
        raise PreflightError(f"--input {source.path}: not the output of a run: it has no run.json")
    if not run.get("facts", {}).get("images", True):
        raise PreflightError(
            f"--input {source.path}: its records hold no images (they were made with --no-images), "
            "and training needs them"
        )
    if run.get("finished") is None:
        print(f"note: the run in {source.path} is not finished; this learns from what it has now")
    return run
