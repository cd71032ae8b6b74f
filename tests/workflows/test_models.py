"""Models are checked and pinned before a run: revisions, precisions, and the date in prompts."""

import dataclasses
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from c3l_ray.config import ScoreConfig
from c3l_ray.errors import PreflightError
from c3l_ray.identity import generation_identity
from c3l_ray.inference import model_check
from c3l_ray.inference.model_check import CheckedModel
from c3l_ray.model_config import ClipModel, GeneratorModel, RequiredScorerModel, ScorerModel
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.train.training_config import ModelToTune, TrainConfig
from c3l_ray.workflows.models import (
    choose_revision,
    engine_dtype,
    pin_generation,
    pin_scoring,
    pin_training,
)
from c3l_ray.workflows.prompts import settle_generation
from tests.examples import MakeConfig


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(str(tmp_path / "run"))


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.LLAVA, tmp_path / "llava"))


def change_config(folder: Path, **fields: Any) -> str:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **fields}))
    return str(folder)


def use_date(folder: Path) -> str:
    template = folder / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d %b %Y') }} " + template.read_text())
    return str(folder)


def test_the_scorer_is_named_and_precisions_are_decided(
    config: MakeConfig, folder: RunFolder
) -> None:
    name = str(world.LLAVA)
    run = pin_generation(config(model=GeneratorModel(name=name)), folder)
    declared = json.loads((world.LLAVA / "config.json").read_text())["dtype"]
    assert run.config.scorer == ScorerModel(name=name, dtype=declared)
    assert run.config.model.dtype == engine_dtype("auto", declared)
    assert run.identities["model"] == run.identities["scorer"]
    assert run.config.prompt_date is None
    assert pin_generation(run.config, folder) == run


@pytest.mark.parametrize(
    ("dtype", "declared", "expected"),
    [
        ("auto", "float32", "bfloat16"),
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float16", "float16"),
        ("auto", None, "auto"),
        ("auto", "float8_e4m3fn", "auto"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_what_auto_becomes_in_the_engine(dtype: Any, declared: str | None, expected: str) -> None:
    assert engine_dtype(dtype, declared) == expected


def test_revisions_become_commits(
    config: MakeConfig, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def inspect(flag: str, name: str, **source: Any) -> CheckedModel:
        asked.append((flag, name, source["revision"]))
        return CheckedModel(
            name=name,
            identity=f"{name}@c0ffee",
            commit="c0ffee",
            dtype="bfloat16",
            quantization=None,
            uses_date=False,
            can_score=True,
        )

    monkeypatch.setattr(model_check, "inspect_model", inspect)
    run = pin_generation(config(model=GeneratorModel(name="o/m", revision="v1")), folder)
    assert asked == [("--model.name", "o/m", "v1")] * 2
    assert (run.config.model.revision, run.config.scorer.revision) == ("c0ffee", "c0ffee")
    assert run.identities["model"] == "o/m@c0ffee"
    asked.clear()
    scorer = ScorerModel(name="o/s", revision="v2")
    pin_generation(config(model=GeneratorModel(name="o/m"), scorer=scorer), folder)
    assert asked == [("--model.name", "o/m", None), ("--scorer.name", "o/s", "v2")]
    with pytest.raises(PreflightError, match=r"--scorer\.revision v2: belongs to --scorer\.name"):
        pin_generation(config(scorer=ScorerModel(revision="v2")), folder)
    with pytest.raises(PreflightError, match=r"--scorer\.trust-remote-code: belongs to --scorer"):
        pin_generation(config(scorer=ScorerModel(trust_remote_code=True)), folder)


@pytest.mark.parametrize(
    ("name", "asked", "noted", "expected"),
    [
        ("o/m", None, "o/m@c0ffee", "c0ffee"),  # whatever the hub's latest commit is by now
        ("o/m", "v2", "o/m@c0ffee", "v2"),
        ("o/n", None, "o/m@c0ffee", None),
        ("o/m", None, None, None),
        ("/local/m", None, "0123456789abcdef", None),
        ("hf-hub:o/clip", None, "hf-hub:o/clip@c0ffee", "c0ffee"),
    ],
)
def test_a_commit_that_an_earlier_command_noted_is_taken_again(
    name: str, asked: str | None, noted: str | None, expected: str | None
) -> None:
    assert choose_revision(name, asked, noted) == expected


@pytest.fixture
def moving_hub(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """A hub whose latest commit is another one each time; the revisions that it was asked for."""
    asked: list[str | None] = []

    def inspect(flag: str, name: str, *, revision: str | None = None, **_: Any) -> CheckedModel:
        asked.append(revision)
        commit = revision or f"commit{len(asked)}"
        return CheckedModel(
            name=name,
            identity=f"{name}@{commit}",
            commit=commit,
            dtype="bfloat16",
            quantization=None,
            uses_date=True,
            can_score=True,
        )

    monkeypatch.setattr(model_check, "inspect_model", inspect)
    return asked


def test_a_run_resumes_with_its_commits_after_the_hub_has_others(
    config: MakeConfig, folder: RunFolder, moving_hub: list[str | None]
) -> None:
    generated = config(model=GeneratorModel(name="o/m"), scorer=ScorerModel(name="o/s"))
    first = pin_generation(generated, folder)
    assert (first.config.model.revision, first.config.scorer.revision) == ("commit1", "commit2")
    identity = generation_identity(first.config, **first.identities)
    folder.write_json("run.json", {"identity": {"generation": identity.content}})  # of jobs.c3l
    assert pin_generation(generated, folder).identities == first.identities
    folder.write_json("run.json", {"identity": identity.content})
    assert pin_generation(generated, folder).identities == first.identities
    scoring = ScoreConfig(
        input=("in",),
        output="out",
        scorer=RequiredScorerModel(name="o/s"),
        clip=ClipModel(name=str(world.CLIP), weights=None),
    )
    assert pin_scoring(scoring, folder).config.scorer.revision == "commit2"


def test_a_training_resumes_with_its_commit_its_day_and_its_precision(
    folder: RunFolder, moving_hub: list[str | None]
) -> None:
    config = TrainConfig(input=("run",), output="out", model=ModelToTune(name="o/m"))
    first, identity = pin_training(config, folder, None)
    assert (first.model.revision, identity) == ("commit1", "o/m@commit1")
    assert first.prompt_date == datetime.date.today().isoformat()
    noted = {
        "model": identity,
        "prompt_date": "2024-02-29",
        "tuning": {"precision": "bfloat16"},
    }
    folder.write_json("run.json", {"identity": noted})
    again, identity = pin_training(config, folder, None)
    assert (again.model.revision, identity) == ("commit1", "o/m@commit1")
    assert (again.prompt_date, again.model.precision) == ("2024-02-29", "bfloat16")
    assert pin_training(config, folder, "2023-01-01")[0].prompt_date == "2023-01-01"
    asked = dataclasses.replace(
        config, prompt_date="2022-01-01", model=ModelToTune(name="o/m", precision="float32")
    )
    pinned, _ = pin_training(asked, folder, "2023-01-01")
    assert (pinned.prompt_date, pinned.model.precision) == ("2022-01-01", "float32")


def test_a_training_advises_no_flag_that_it_lacks(folder: RunFolder, llava: Path) -> None:
    (llava / "own.py").write_text("")
    name = change_config(llava, model_type="own_vlm", auto_map={"AutoConfig": "own.OwnConfig"})
    config = TrainConfig(input=("run",), output="out", model=ModelToTune(name=name))
    with pytest.raises(PreflightError, match=r"code of its own, which this job does not run; name"):
        pin_training(config, folder, None)


def test_a_quantized_generator_needs_another_scorer(
    config: MakeConfig, folder: RunFolder, llava: Path
) -> None:
    quantized = shutil.move(llava, llava.parent / "llava-AWQ")
    name = change_config(Path(quantized), quantization_config={"quant_method": "awq", "bits": 4})
    message = (
        r"--model\.name .*llava-AWQ: is quantized \(awq\): it generates, but does not score\. Name "
        r"the unquantized checkpoint as --scorer\.name, such as .*/llava$"
    )
    with pytest.raises(PreflightError, match=message):
        pin_generation(config(model=GeneratorModel(name=name)), folder)
    scorer = ScorerModel(name=str(world.LLAVA))
    run = pin_generation(config(model=GeneratorModel(name=name), scorer=scorer), folder)
    assert run.config.scorer.name == str(world.LLAVA)
    with pytest.raises(PreflightError, match=r"--scorer\.name .*is quantized"):
        pin_generation(config(scorer=ScorerModel(name=name)), folder)


def test_a_date_in_the_prompt_is_that_of_the_first_command(
    config: MakeConfig, folder: RunFolder, llava: Path
) -> None:
    dated = config(model=GeneratorModel(name=use_date(llava), dtype="float32"))
    first = pin_generation(dated, folder)
    assert first.config.prompt_date == datetime.date.today().isoformat()
    on_leap_day = dataclasses.replace(dated, prompt_date="2024-02-29")
    begun = pin_generation(on_leap_day, folder)
    folder.claim(generation_identity(begun.config, **begun.identities), "generate")
    resumed = pin_generation(dated, folder)
    assert resumed.config.prompt_date == "2024-02-29"


def test_a_date_in_the_scorers_prompt_counts_too(
    config: MakeConfig, folder: RunFolder, llava: Path, tmp_path: Path
) -> None:
    today = datetime.date.today().isoformat()
    run = pin_generation(config(scorer=ScorerModel(name=use_date(llava))), folder)
    assert run.config.prompt_date == today
    score_config = ScoreConfig(
        input=("i",),
        output=str(tmp_path / "scored"),
        scorer=RequiredScorerModel(name=str(llava)),
        clip=config().clip,
    )
    assert pin_scoring(score_config, folder).config.prompt_date == today


@pytest.mark.parametrize("day", ["29.02.2024", "2023-02-29", "20240229", ""])
def test_a_date_that_is_no_day_is_refused(config: MakeConfig, day: str) -> None:
    with pytest.raises(PreflightError, match=r"--prompt-date .*must be a day as YYYY-MM-DD"):
        config(prompt_date=day)


def test_where_nothing_is_scored_no_other_model_is_looked_at(
    config: MakeConfig, folder: RunFolder, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor refused: a quantized generator does not score, but generates."""

    def refuse(*_: object) -> None:
        raise AssertionError("CLIP is looked at")

    monkeypatch.setattr("c3l_ray.inference.clip_check.check_clip", refuse)
    name = change_config(llava, quantization_config={"quant_method": "awq"})
    model = GeneratorModel(name=name)
    run = pin_generation(config(model=model, score=False, clip=ClipModel()), folder)
    assert run.identities.keys() == {"model"} and run.config.scorer == ScorerModel()
    assert settle_generation(run.config).model.template_args == ()
    with pytest.raises(PreflightError, match="is quantized"):
        pin_generation(config(model=model), folder)


def test_a_processor_is_loaded_once_before_a_job_starts(
    config: MakeConfig, folder: RunFolder, llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = AutoProcessor.from_pretrained, []

    def load_and_count(name: str, *args: Any, **options: Any) -> Any:
        loaded.append(name)
        return load(name, *args, **options)

    monkeypatch.setattr(AutoProcessor, "from_pretrained", load_and_count)
    model = GeneratorModel(name=str(llava))
    settle_generation(pin_generation(config(model=model), folder).config)
    assert loaded == [str(llava)]
    use_date(llava)  # another model lies there now
    settle_generation(pin_generation(config(model=model), folder).config)
    assert loaded == [str(llava)] * 2
