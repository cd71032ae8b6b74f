"""A benchmark's questions in, a model's answers and their figures out."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from c3l_ray import schema
from c3l_ray.benchmark_config import BenchmarkConfig
from c3l_ray.benchmarks.answers import BenchmarkAnswer, collect_answers, read_answers, write_answers
from c3l_ray.benchmarks.catalogue import CATALOGUE, Benchmark
from c3l_ray.benchmarks.comparison import compare_answers
from c3l_ray.benchmarks.official_files import DATA
from c3l_ray.benchmarks.questions import BenchmarkData
from c3l_ray.benchmarks.result import (
    RESULT,
    BenchmarkResult,
    check_same_questions,
    describe_answers,
    describe_comparison,
    measure_answers,
    read_result,
)
from c3l_ray.benchmarks.samples import write_samples
from c3l_ray.errors import PreflightError, TooManyFailures
from c3l_ray.identity import Identity, installed_versions
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RunProgress
from c3l_ray.runs.state import note_failure
from c3l_ray.storage import Location
from c3l_ray.workflows.budget import count_gpus, hold_to_hours, hold_to_price
from c3l_ray.workflows.prompts import settle_template_args
from c3l_ray.workflows.records import make_paths_absolute, write_records

JOB = "benchmark"
NUM_CHECKED_IMAGES = 16  # before the start

log = logging.getLogger(__name__)


def run_benchmark(config: BenchmarkConfig) -> BenchmarkResult:
    """Asks the model what it was not asked yet, and returns what result.json says.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    hold_to_hours(config)
    config = make_paths_absolute(config)
    benchmark = CATALOGUE[config.benchmark]
    folder = RunFolder.open(config.output)
    folder.check_free(JOB)
    log.info("reading the questions")
    data = read_data(config, benchmark)
    suffix = benchmark.suffix if config.suffix is None else config.suffix
    other = _open_other(config, data, benchmark)
    log.info("checking the model")
    from c3l_ray.workflows.models import pin_generation

    run = pin_generation(config, folder)
    pinned = settle_template_args(run.config)
    identity = describe_identity(pinned, data, suffix, **run.identities)
    identity = folder.claim(identity, JOB, mix_versions=config.mix_versions)
    progress = RunProgress(folder, pinned, identity, JOB)
    with note_failure(progress.note):
        progress.begin()
        samples, images = write_samples(folder, data, suffix)
        layout = TurnsLayout(image_root=images.address)
        pinned = dataclasses.replace(pinned, input=(samples,), layout=layout)
        shards = find_shards(pinned.input, pinned.layout)
        from c3l_ray.distributed import cluster

        cluster.connect(cluster.count_actors(pinned), verbose=config.verbose)
        pinned = cluster.with_gpu_shares(pinned)
        hold_to_price(pinned, count_gpus(pinned.pools))
        write_records(pinned, shards, progress, generates=True)
    answers = collect_answers(folder, data, suffix, benchmark.read_verdict)
    write_answers(folder, identity.origin, answers)
    figures, official = measure_answers(answers, benchmark)
    result = BenchmarkResult(
        benchmark=config.benchmark,
        source=benchmark.source,
        model=config.model.name,
        origin=identity.origin,
        questions_digest=data.digest,
        suffix=suffix,
        suffix_source=benchmark.suffix_source if config.suffix is None else "--suffix",
        **describe_answers(answers),
        figures=figures,
        official=official,
        against=_compare(answers, other, benchmark),
    )
    folder.check_owner(identity.origin)
    folder.write_json(RESULT, dataclasses.asdict(result))
    return result


def read_data(config: BenchmarkConfig, benchmark: Benchmark) -> BenchmarkData:
    """The questions, with the folder of their images, of which some are looked for.

    Raises:
        PreflightError: a file is faulty, or none of the first images is there.
    """
    data = benchmark.read_questions(Location.parse(config.data, DATA))
    if data.image_root is None:
        if config.image_root is not None:
            raise PreflightError(
                f"--image-root {config.image_root}: the files of {config.benchmark} hold their "
                "images themselves"
            )
        return data
    if config.image_root is not None:
        root = Location.parse(config.image_root, "--image-root")
        data = dataclasses.replace(data, image_root=root)
    assert data.image_root is not None
    names = list(dict.fromkeys(question.image for question in data.questions))[:NUM_CHECKED_IMAGES]
    if not any((data.image_root / name).exists() for name in names):
        raise PreflightError(
            f"--image-root {data.image_root.address}: the first {len(names)} images are not there, "
            f"such as {names[0]}; name the folder that the images of {config.benchmark} lie in"
        )
    return data


def describe_identity(
    config: BenchmarkConfig, data: BenchmarkData, suffix: str, model: str
) -> Identity:
    """What defines the answers.

    Args:
        config: with precision, template arguments and the date decided.
        data: of the benchmark.
        suffix: of the prompts.
        model: the identity of the model.
    """
    return Identity(
        {
            "schema": schema.VERSION,
            "benchmark": config.benchmark,
            "questions": data.digest,
            "suffix": suffix,
            "model": model,
            "model_dtype": config.model.dtype,
            "model_template_args": list(config.model.template_args),
            "model_max_len": config.model.max_len,
            "max_tokens": config.sampling.max_tokens,
            "max_pixels": config.max_pixels,
            "keep_images": config.keep_images,
            "prompt_date": config.prompt_date,
            "versions": installed_versions("torch", "transformers", "vllm"),
        }
    )


def check_failed_questions(result: BenchmarkResult, max_failed_share: float) -> None:
    """Refuses a run in which more questions could not be asked than the user allows.

    Raises:
        TooManyFailures: what was written stays.
    """
    failed = sum(result.failed.values())
    asked = result.questions - result.not_asked
    if failed > max_failed_share * asked:
        raise TooManyFailures(
            f"{failed} of {asked} questions could not be asked, over the share of "
            f"{max_failed_share} that --max-failed-share allows; what was written stays"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Other:
    """The output to compare with."""

    path: str
    result: dict[str, Any]
    answers: list[BenchmarkAnswer]


def _open_other(
    config: BenchmarkConfig, data: BenchmarkData, benchmark: Benchmark
) -> _Other | None:
    if config.against is None:
        return None
    folder = RunFolder.open(config.against, "--against")
    result = read_result(folder)
    check_same_questions(result, folder, config.benchmark, data.digest)
    answers = read_answers(folder, benchmark.read_verdict)
    return _Other(path=config.against, result=result, answers=answers)


def _compare(
    answers: Sequence[BenchmarkAnswer], other: _Other | None, benchmark: Benchmark
) -> dict[str, Any] | None:
    if other is None:
        return None
    groups = compare_answers(answers, other.answers, benchmark.metrics, benchmark.halves)
    return describe_comparison(other.result, other.path, groups)
