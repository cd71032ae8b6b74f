import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from c3l_ray.distributed.devices import Device
from c3l_ray.errors import PreflightError
from c3l_ray.identity import Identity, generation_identity
from c3l_ray.model_config import ClipModel, GeneratorModel, Sampling, ScorerModel
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.state import CommandLog
from c3l_ray.scenes import world
from c3l_ray.train.identity import training_identity
from c3l_ray.train.objectives import Alignment, Answers, Contrast
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.training_config import (
    Optimization,
    Progress,
    TrainConfig,
    TrainingOptions,
)
from c3l_ray.train.tuning_config import TuningOptions
from c3l_ray.workflows import c3l as c3l_workflow
from c3l_ray.workflows.c3l import c3l_identity, check_stages, run_c3l
from c3l_ray.workflows.c3l_config import C3LConfig, generation_config, training_config
from tests.runs.tables import stage_three_images


@dataclass
class ChosenPools:
    """Of a cluster that is not there."""

    gpus: float = 1.0


MakeC3LConfig = Callable[..., C3LConfig]


@pytest.fixture
def c3l_config(tmp_path: Path) -> MakeC3LConfig:
    def make(**changes: Any) -> C3LConfig:
        fields: dict[str, Any] = {
            "input": ("in",),
            "output": str(tmp_path / "out"),
            "model": GeneratorModel(name="m"),
        }
        return C3LConfig(**{**fields, **changes})

    return make


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": -1}, "--rounds -1: must be at least 0"),
        ({"top": 0}, "--top 0: must be above 0"),
        ({"top": 2.5}, r"--top 2\.5: must be a share below 1 or a whole number of turns"),
        ({"limit": 9}, "--limit 9: later stages are made from whole rounds"),
        ({"retry_failed": ()}, "--retry-failed .*: later stages are made from the rounds as they"),
        ({"keep_images": False}, "--no-keep-images: training needs the images"),
        (
            {"model": GeneratorModel(name="m", trust_remote_code=True)},
            "--model.trust-remote-code: training does not load models with code of their own",
        ),
        ({"objective": "answers"}, "--objective answers: has no answers to choose from"),
        (
            {"training": TrainingOptions(contrast=Contrast(token_weights="vig"))},
            "--training.contrast.token-weights vig: needs the flag --token-gains",
        ),
        (
            {"tuning": TuningOptions(tune="full"), "training": TrainingOptions(export="adapter")},
            "--training.export adapter: --tuning.tune full has no LoRA matrices",
        ),
    ],
)
def test_a_job_that_cannot_end_is_refused_before_the_first_stage(
    c3l_config: MakeC3LConfig, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        c3l_config(**fields)


def test_every_round_has_seeds_of_its_own_unless_rounds_are_to_be_compared(
    c3l_config: MakeC3LConfig,
) -> None:
    def seeds(config: C3LConfig) -> list[int]:
        return [generation_config(config, "m", number).sampling.seed for number in range(3)]

    other = c3l_config(sampling=Sampling(seed=1))
    assert seeds(c3l_config()) == [0, 1, 2]
    assert not set(seeds(c3l_config())) & set(seeds(other))
    assert seeds(c3l_config(fresh_seeds=False)) == [0, 0, 0]


def test_the_objective_is_that_of_every_training(c3l_config: MakeC3LConfig) -> None:
    answers = Answers(by="visual_ifd", pair_weight=1.0)
    config = c3l_config(
        objective="answers", answers=6, training=TrainingOptions(answers=answers), rounds=2
    )
    for number in range(2):
        training = training_config(config, "m", number)
        assert (training.objective, training.answers) == ("answers", answers)
        assert generation_config(config, "m", number).answers == 6
    assert training_config(c3l_config(), "m", 0).objective == "c3l"


class Started(Exception):
    """A job got as far as its cluster."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    world.write_scenes(tmp_path / "in", num_scenes=9, scenes_per_shard=9)
    return tmp_path / "in"


@pytest.fixture
def run_to_cluster(monkeypatch: pytest.MonkeyPatch, c3l_config: MakeC3LConfig, images: Path) -> Any:
    """Runs a job over the shipped models up to where its first process would start."""

    def stop(*_: Any, **__: Any) -> None:
        raise Started

    def run(**changes: Any) -> None:
        clip = ClipModel(name=str(world.CLIP), weights=None)
        fields = {"model": GeneratorModel(name=str(world.LLAVA)), **changes}
        run_c3l(c3l_config(input=(str(images),), clip=clip, **fields))

    monkeypatch.setattr("c3l_ray.distributed.cluster.connect", stop)
    return run


@pytest.mark.parametrize("rounds", [1, 0])
def test_a_model_that_cannot_be_written_back_is_refused_where_it_would_be_tuned(
    run_to_cluster: Any, tmp_path: Path, rounds: int
) -> None:
    name = tmp_path / "bin"
    shutil.copytree(world.LLAVA, name)
    torch.save(load_file(name / "model.safetensors"), name / "pytorch_model.bin")
    (name / "model.safetensors").unlink()
    expected: Any = PreflightError if rounds else Started
    with pytest.raises(expected, match="no weights in safetensors" if rounds else None):
        run_to_cluster(model=GeneratorModel(name=str(name)), rounds=rounds)
    assert (tmp_path / "out" / "run.json").exists() == (not rounds)


@pytest.mark.parametrize("rounds", [1, 0])
def test_images_that_the_training_would_skip_are_refused_before_any_turn_is_written(
    run_to_cluster: Any, tmp_path: Path, rounds: int
) -> None:
    message = r"--tuning\.max-len 30: the first 8 images need \d+ .*tokens with the shortest"
    expected: Any = PreflightError if rounds else Started
    with pytest.raises(expected, match=message if rounds else None):
        run_to_cluster(tuning=TuningOptions(max_len=30), rounds=rounds)
    assert (tmp_path / "out" / "run.json").exists() == (not rounds)


def test_a_damaged_first_shard_says_nothing_of_lengths(run_to_cluster: Any, images: Path) -> None:
    (images / "0.tar").write_bytes(b"damaged" * 999)
    with pytest.raises(PreflightError, match=r"--tuning\.max-len 30: the first 8 images need"):
        run_to_cluster(tuning=TuningOptions(max_len=30))


def test_a_training_that_fits_no_gpu_is_refused_before_the_first_round(
    run_to_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("c3l_ray.distributed.cluster.connect", lambda *_, **__: None)
    monkeypatch.setattr("c3l_ray.distributed.cluster.choose_pools", lambda _: ChosenPools())
    monkeypatch.setattr("c3l_ray.distributed.cluster.choose_worker_gpus", lambda *_: 1.0)
    device = Device(memory=1000, has_bfloat16=True)
    monkeypatch.setattr("c3l_ray.distributed.devices.find_device", lambda _: device)
    monkeypatch.setattr(c3l_workflow, "_run_stages", lambda *_: pytest.fail("a stage ran"))
    with pytest.raises(PreflightError, match=r"its GPU has 0\.0; .*--training\.workers\.sharding"):
        run_to_cluster()


def test_a_tuned_model_has_no_revision(c3l_config: MakeC3LConfig) -> None:
    config = c3l_config(model=GeneratorModel(name="owner/model", revision="c0ffee"))
    names = enumerate(("o/m", "tuned"))
    for number, name in names:
        for stage in (generation_config, training_config):
            model = stage(config, name, number).model
            assert (model.name, model.revision) == (name, "c0ffee" if number == 0 else None)


def test_a_training_is_given_the_day_of_its_round(c3l_config: MakeC3LConfig) -> None:
    config = c3l_config(prompt_date="2024-02-29", mix_versions=True)
    training = training_config(config, "m", 0)
    assert (training.prompt_date, training.mix_versions) == ("2024-02-29", True)


def test_versions_are_part_of_the_identity_on_their_own(c3l_config: MakeC3LConfig) -> None:
    config = c3l_config()
    generation = generation_identity(config, model="m", scorer="s", clip="c")
    content = c3l_identity(generation).content
    assert content["versions"] == generation.content["versions"]
    assert {**content["generation"], "versions": content["versions"]} == generation.content


def test_every_round_is_scored_by_the_model_as_it_came(c3l_config: MakeC3LConfig) -> None:
    tuned = generation_config(c3l_config(), "out/train-0/model", 1)
    assert (tuned.model.name, tuned.scorer_name) == ("out/train-0/model", "m")
    config = c3l_config(scorer=ScorerModel(name="judge"))
    judged = generation_config(config, "out/train-0/model", 1)
    assert judged.scorer_name == "judge"


def test_a_tuned_model_is_asked_in_an_engine_like_those_of_the_rounds(
    c3l_config: MakeC3LConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = c3l_config(model=GeneratorModel(name="m", tensor_parallel=4, max_len=999))
    engines: list[GeneratorModel] = []

    def finish(output: str) -> None:
        report = {"origin": "o", "finished": "today", "seconds": {}}
        RunFolder.open(output).write_json("run.json", report)

    def train(of_training: TrainConfig, engine: GeneratorModel) -> None:
        engines.append(engine)
        finish(of_training.output)

    monkeypatch.setattr(c3l_workflow, "generate_records", lambda of_round: finish(of_round.output))
    monkeypatch.setattr(c3l_workflow, "describe_turns", lambda folder: {})
    monkeypatch.setattr(c3l_workflow, "select_once", lambda selection: {})
    monkeypatch.setattr("c3l_ray.workflows.train.train_model", train)
    folder = RunFolder.open(config.output)
    identity = c3l_identity(generation_identity(config, **MODELS))
    commands = CommandLog(folder, identity.origin)
    c3l_workflow._run_stages(config, folder, identity, commands, None)
    assert [(engine.tensor_parallel, engine.max_len) for engine in engines] == [(4, 999)]


MODELS = {"model": "as it came", "scorer": "as it came", "clip": "clip"}


@pytest.fixture
def finished(c3l_config: MakeC3LConfig) -> C3LConfig:
    """The config of a run whose stages are finished: two rounds and a training."""
    config = c3l_config(reply_format="text")
    RunFolder.open(config.output).claim(c3l_identity(generation_identity(config, **MODELS)), "c3l")

    def write_stage(name: str, job: str, identity: Identity, **report: Any) -> None:
        stage = RunFolder.open(f"{config.output}/{name}")
        stage.claim(identity, job)
        if job == "generate":
            commit_unit(stage, "u", "a.tar", stage_three_images(), identity.origin)
        else:
            stage.write("model/config.json", b"{}")
        claimed = stage.read_json("run.json") or {}
        stage.write_json("run.json", {**claimed, "finished": "today", **report})

    for number, models in enumerate((MODELS, {**MODELS, "model": "tuned"})):
        of_round = generation_config(config, "m", number)
        write_stage(f"round-{number}", "generate", generation_identity(of_round, **models))
    of_training = training_config(config, "m", 0)
    identity = training_identity(of_training, open_source(of_training), MODELS["model"])
    write_stage("train-0", "train", identity, model={"tuned": "tuned"})
    return config


def claim_again(config: C3LConfig) -> None:
    """What a second command does before any stage."""
    RunFolder.open(config.output).claim(c3l_identity(generation_identity(config, **MODELS)), "c3l")
    check_stages(config, MODELS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"top": 10_000},
        {"by": "gain", "within": "kind"},
        {"rounds": 2},
        {"rounds": 0},
        {"training": TrainingOptions(optim=Optimization(micro_batch=1))},
        {"training": TrainingOptions(alignment=Alignment(windows=4))},
        {"training": TrainingOptions(progress=Progress(max_held_out=9, log_every=1))},
        {"tuning": TuningOptions(activation_checkpointing="on")},
    ],
)
def test_a_finished_run_takes_what_does_not_change_its_stages(
    finished: C3LConfig, c3l_config: MakeC3LConfig, changes: dict[str, Any]
) -> None:
    claim_again(c3l_config(reply_format="text", **changes))


@pytest.mark.parametrize(
    ("changes", "stage", "field"),
    [
        ({"turns_per_image": 3}, "", "turns_per_image"),
        ({"fresh_seeds": False}, "round-1", "sampling"),
        ({"training": TrainingOptions(optim=Optimization(seed=1))}, "train-0", "optim"),
        ({"training": TrainingOptions(contrast=Contrast(nll_weight=2))}, "train-0", "contrast"),
        ({"training": TrainingOptions(progress=Progress(held_out=0.5))}, "train-0", "held_out"),
        ({"tuning": TuningOptions(lora_rank=4)}, "train-0", "tuning"),
    ],
)
def test_a_stage_of_other_settings_is_refused_by_its_name(
    finished: C3LConfig,
    c3l_config: MakeC3LConfig,
    changes: dict[str, Any],
    stage: str,
    field: str,
) -> None:
    with pytest.raises(PreflightError, match=f"{field}.* there") as raised:
        claim_again(c3l_config(reply_format="text", **changes))
    path = f"{finished.output}/{stage}".rstrip("/")
    assert str(raised.value).startswith(f"--output {path}: belongs to origin")
    assert (f"Or remove {stage} and the stages after it" in str(raised.value)) == bool(stage)


def test_a_training_that_is_still_to_come_takes_other_settings(
    finished: C3LConfig, c3l_config: MakeC3LConfig
) -> None:
    """Of a run that stopped in its first training, before the first checkpoint."""
    output = Path(finished.output)
    shutil.rmtree(output / "round-1")
    shutil.rmtree(output / "train-0" / "model")
    path = output / "train-0" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "finished": None}))
    other = TrainingOptions(optim=Optimization(seed=1))
    claim_again(c3l_config(reply_format="text", training=other))
    claim_again(c3l_config(reply_format="text"))
    shutil.rmtree(output / "train-0")
    claim_again(c3l_config(reply_format="text", training=other))


def test_a_precision_that_the_training_decided_is_that_of_its_resumption(
    finished: C3LConfig, c3l_config: MakeC3LConfig
) -> None:
    of_training = training_config(finished, "m", 0)
    model = dataclasses.replace(of_training.model, precision="bfloat16")
    decided = dataclasses.replace(of_training, model=model)
    stage = RunFolder.open(of_training.output)
    report = stage.read_json("run.json") or {}
    identity = training_identity(decided, open_source(decided), MODELS["model"])
    stage.write_json(
        "run.json", {**report, "origin": identity.origin, "identity": identity.content}
    )
    claim_again(c3l_config(reply_format="text"))
    with pytest.raises(PreflightError, match=r"tuning\.precision: 'bfloat16' there, 'float32' now"):
        claim_again(c3l_config(reply_format="text", tuning=TuningOptions(precision="float32")))


def test_a_round_of_a_training_that_is_gone_is_refused(finished: C3LConfig) -> None:
    shutil.rmtree(Path(finished.output) / "train-0")
    with pytest.raises(PreflightError, match=r"round-1: was made from train-0, which is not there"):
        claim_again(finished)
