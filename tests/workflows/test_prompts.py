"""What is settled of prompts before a job starts."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest

from c3l_ray.config import INSTRUCTIONS, GenerateConfig, ScoreConfig
from c3l_ray.errors import PreflightError
from c3l_ray.identity import generation_identity, scoring_identity
from c3l_ray.methods import c3l
from c3l_ray.model_config import GeneratorModel, RequiredScorerModel, ScorerModel
from c3l_ray.scenes import world
from c3l_ray.train.identity import training_identity
from c3l_ray.train.reading.sources import Source
from c3l_ray.train.training_config import ModelToTune, TrainConfig
from c3l_ray.workflows.c3l_config import C3LConfig, generation_config, training_config
from c3l_ray.workflows.prompts import (
    settle_generation,
    settle_instructions,
    settle_scoring,
    settle_training,
)
from tests import thinking
from tests.examples import MakeConfig

OFF, ON = ("enable_thinking=false",), ("enable_thinking=true",)


@pytest.fixture
def switched(tmp_path: Path) -> str:
    return thinking.write_model(tmp_path / "switched", thinking.SWITCHED)


def origin_of(config: GenerateConfig) -> str:
    return generation_identity(config, model="m", scorer="s", clip="c").origin


def test_thinking_off_is_part_of_the_origin_however_it_is_said(
    config: MakeConfig, switched: str
) -> None:
    def settle(args: tuple[str, ...]) -> GenerateConfig:
        return settle_generation(config(model=GeneratorModel(name=switched, template_args=args)))

    by_default, said, on = (settle(args) for args in ((), OFF, ON))
    assert by_default.model.template_args == by_default.scorer.template_args == OFF
    assert on.model.template_args == on.scorer.template_args == ON
    assert origin_of(by_default) == origin_of(said) != origin_of(on)
    assert settle_generation(by_default) == by_default


def test_a_scorer_has_the_arguments_that_it_knows_or_its_own(
    config: MakeConfig, switched: str
) -> None:
    model = GeneratorModel(name=switched, template_args=ON)
    for scorer, expected in (
        (ScorerModel(name=str(world.LLAVA)), ()),
        (ScorerModel(template_args=OFF), OFF),
    ):
        settled = settle_generation(config(model=model, scorer=scorer))
        assert settled.scorer.template_args == expected
    unknown = ScorerModel(name=str(world.LLAVA), template_args=ON)
    with pytest.raises(PreflightError, match=r"^--scorer.template-args enable_thinking: .*none"):
        settle_generation(config(model=model, scorer=unknown))


def test_scored_turns_have_an_origin_of_their_prompt(switched: str) -> None:
    def settle(args: tuple[str, ...]) -> ScoreConfig:
        scorer = RequiredScorerModel(name=switched, template_args=args)
        return settle_scoring(ScoreConfig(input=("i",), output="o", scorer=scorer))

    by_default, said, on = (settle(args) for args in ((), OFF, ON))
    assert by_default.scorer.template_args == OFF
    origins = [scoring_identity(c, scorer="s", clip="c").origin for c in (by_default, said, on)]
    assert origins[0] == origins[1] != origins[2]


def settle_json_family(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> GenerateConfig:
    """The shipped model as if its family replied in JSON."""
    monkeypatch.setattr(
        "c3l_ray.inference.model_check.choose_reply_format", lambda *_, **__: "json"
    )
    return settle_generation(config(**changes))


def test_a_model_that_thinks_first_is_asked_for_text(
    config: MakeConfig, switched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = thinking.write_model(tmp_path / "always", thinking.ALWAYS)
    for name, args, expected in (
        (switched, (), "json"),
        (switched, OFF, "json"),
        (switched, ON, "text"),
        (always, (), "text"),
    ):
        model = GeneratorModel(name=name, template_args=args)
        assert settle_json_family(config, monkeypatch, model=model).reply_format == expected


@pytest.mark.parametrize(
    ("template", "args", "remedy"),
    [
        (
            thinking.SWITCHED,
            ON,
            "take --reply-format text, or --model.template-args enable_thinking=false",
        ),
        (thinking.ALWAYS, (), "take --reply-format text"),
    ],
)
def test_json_is_refused_where_it_would_forbid_a_thought(
    config: MakeConfig, tmp_path: Path, template: str, args: tuple[str, ...], remedy: str
) -> None:
    name = thinking.write_model(tmp_path / "m", template)
    model = GeneratorModel(name=name, template_args=args)
    with pytest.raises(PreflightError) as refusal:
        settle_generation(config(model=model, reply_format="json"))
    assert str(refusal.value) == (
        f"--reply-format json: {name} thinks before it replies, which JSON forbids; {remedy}"
    )
    settle_generation(config(model=model, reply_format="text"))


def test_all_stages_of_c3l_have_the_arguments_of_its_generator(
    config: MakeConfig, switched: str
) -> None:
    fields = {
        field.name: getattr(config(), field.name) for field in dataclasses.fields(GenerateConfig)
    }
    model = GeneratorModel(name=switched, template_args=ON)
    settled = settle_generation(C3LConfig(**{**fields, "model": model}))
    generation = generation_config(settled, "tuned", 1)
    training = training_config(settled, switched, 0)
    assert generation.model.template_args == generation.scorer.template_args == ON
    assert training.model.template_args == ON


class FixedSource:
    """Records of one origin."""

    origin = "o"
    layout = None

    def digests(self) -> list[str]:
        return ["a"]


def test_tuned_weights_have_an_origin_of_their_prompt(switched: str) -> None:
    def origin_of_training(args: tuple[str, ...]) -> str:
        model = ModelToTune(name=switched, template_args=args)
        config = settle_training(TrainConfig(input=("run",), output="tuned", model=model))
        return training_identity(config, cast(Source, FixedSource()), "initial").origin

    assert origin_of_training(()) == origin_of_training(OFF) != origin_of_training(ON)


@pytest.mark.parametrize(("args", "warns"), [((), False), (ON, True)])
def test_training_after_another_prompt_than_generation_is_said(
    switched: str,
    caplog: pytest.LogCaptureFixture,
    args: tuple[str, ...],
    warns: bool,
) -> None:
    model = ModelToTune(name=switched, template_args=args)
    config = TrainConfig(input=("run",), output="tuned", model=model)
    with caplog.at_level(logging.WARNING, logger="c3l_ray"):
        settled = settle_training(config)
    assert settled.model.template_args == (args or OFF)
    assert any("continues after" in message for message in caplog.messages) is warns


def test_the_users_instructions_are_asked_and_part_of_the_origin(
    config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"

    def settle(wording: str) -> GenerateConfig:
        path.write_text(json.dumps({"detail": [wording]}))
        return settle_generation(settle_instructions(config(instructions=str(path))))

    first, again, other = settle("Ask a."), settle("Ask a."), settle("Ask b.")
    ours = settle_generation(settle_instructions(config()))
    assert origin_of(first) == origin_of(again)
    assert len({origin_of(one) for one in (first, other, ours)}) == 3
    assert ours.asked_wordings == INSTRUCTIONS["c3l"]
    requests = c3l.plan_requests("image", 3, "text", first.asked_wordings)
    asked = c3l.format_instruction("Ask a.")
    assert [(request.kind, request.instruction) for request in requests] == [("detail", asked)] * 3
    assert len({request.seed for request in requests}) == 3
    with pytest.raises(PreflightError, match=r"'See <image>\.' of detail holds <image>, a special"):
        settle("See <image>.")
    with pytest.raises(PreflightError, match="'short' is no kind of this method"):
        path.write_text(json.dumps({"short": ["Ask."]}))
        settle_instructions(config(instructions=str(path), method="vigc"))
    rounds = C3LConfig(
        **{**vars(first), "output": str(tmp_path / "c3l"), "scorer": ScorerModel(name="scorer")}
    )
    assert generation_config(rounds, "tuned", 1).wordings == {"detail": ("Ask a.",)}
