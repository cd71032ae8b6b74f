import dataclasses
from typing import Any

import pytest

from c3l_ray import __version__, identity
from c3l_ray.answer_config import AnswerConfig, AnswerSampling
from c3l_ray.config import GenerateConfig, ScoreConfig
from c3l_ray.identity import (
    Identity,
    answering_identity,
    digest_json,
    generation_identity,
    scoring_identity,
)
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.methods.vigc import CorrectionRules
from c3l_ray.model_config import (
    ClipModel,
    GeneratorModel,
    Pools,
    RequiredScorerModel,
    Sampling,
    ScorerModel,
    ScorerPool,
)
from tests.examples import MakeConfig

MODELS = {"model": "m", "scorer": "s", "clip": "c"}


def generation_origin(config: GenerateConfig, **models: str) -> str:
    return generation_identity(config, **{**MODELS, **models}).origin


def test_an_origin_is_the_digest_of_the_content_whatever_its_order() -> None:
    one = Identity({"a": 1, "b": [2]})
    assert one.origin == digest_json({"b": [2], "a": 1})
    assert len(one.origin) == 16 and int(one.origin, 16) >= 0
    assert one.origin != Identity({"a": 1, "b": [3]}).origin


@pytest.mark.parametrize(
    "changes",
    [
        {"turns_per_image": 3},
        {"reply_format": "json"},
        {"max_pixels": 100},
        {"keep_images": False},
        {"token_gains": True},
        {"method": "vigc"},
        {"correct": True},
        {"sampling": Sampling(temperature=0.1)},
        {"model": GeneratorModel(name="m", dtype="bfloat16")},
        {"scorer": ScorerModel(dtype="bfloat16")},
        {"scorer": ScorerModel(baseline="grey")},
        {"model": GeneratorModel(name="m", template_args=("a=1",))},
        {"scorer": ScorerModel(template_args=("a=1",))},
        {"model": GeneratorModel(name="m", max_len=64)},
        {"prompt_date": "2030-01-01"},
    ],
)
def test_settings_that_define_a_row_change_the_origin(
    config: MakeConfig, changes: dict[str, Any]
) -> None:
    assert generation_origin(config()) != generation_origin(config(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"style": "vig"},
        {"context": "fresh"},
        {"step": "paragraph"},
        {"max_steps": 3},
        {"max_detail_steps": 3},
        {"last_reply_whole": True},
        {"max_tokens": 10},
        {"temperature": 0.5},
        {"repetition_penalty": 1.5},
        {"beams": 5},
    ],
)
def test_rules_of_correction_change_the_origin_where_answers_are_corrected(
    config: MakeConfig, changes: dict[str, Any]
) -> None:
    assert set(changes) < {field.name for field in dataclasses.fields(CorrectionRules)}
    for fields, is_same in (({"correct": True}, False), ({"method": "vigc"}, False), ({}, True)):
        before = generation_origin(config(**fields))
        after = generation_origin(config(**fields, correction=CorrectionRules(**changes)))
        assert (before == after) is is_same


def test_more_answers_change_the_origin_and_their_settings_only_where_there_are_some(
    config: MakeConfig,
) -> None:
    changed: list[dict[str, Any]] = [
        {"answer_temperature": 0.5},
        {"answers": 3},
        {"keep_best": True},
    ]
    kept: dict[str, Any] = {"answers": 2, "keep_best": True}
    before = generation_origin(config(answers=2))
    assert before != generation_origin(config())
    for changes in changed:
        assert generation_origin(config(**{"answers": 2, **changes})) != before
    assert generation_origin(config(answer_temperature=0.5)) == generation_origin(config())
    assert generation_origin(config(answers=2, best_by="gain")) == before
    assert generation_origin(config(**kept, best_by="gain")) != generation_origin(config(**kept))
    assert "answers" not in generation_identity(config(), **MODELS).content


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"answers": 3}, True),
        ({"sampling": AnswerSampling(temperature=0.5)}, True),
        ({"sampling": AnswerSampling(seed=1)}, True),
        ({"layout": TurnsLayout(history="no")}, True),
        ({"model": GeneratorModel(name="m", dtype="bfloat16")}, True),
        ({"model": GeneratorModel(name="m", max_seqs=7)}, False),
        ({"pools": Pools(generators=7)}, False),
    ],
)
def test_what_answers_a_question_gets_defines_the_origin(
    changes: dict[str, Any], differs: bool
) -> None:
    fields: dict[str, Any] = {
        "input": ("i",),
        "output": "o",
        "model": GeneratorModel(name="m"),
    }
    before, after = (
        answering_identity(AnswerConfig(**{**fields, **some}), **MODELS).origin
        for some in ({}, changes)
    )
    assert (before != after) is differs


@pytest.mark.parametrize(
    "changes",
    [
        {"input": ("elsewhere",)},
        {"output": "elsewhere"},
        {"pools": Pools(generators=7)},
        {"scorer": ScorerModel(max_tokens=3, pack=False)},
        {"clip": ClipModel(name="the same weights elsewhere")},
        {"max_failed_share": 0.5},
        {"mix_versions": True},
    ],
)
def test_how_and_where_a_job_runs_does_not_change_the_origin(
    config: MakeConfig, changes: dict[str, Any]
) -> None:
    assert generation_origin(config()) == generation_origin(config(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_seqs": 7},
        {"step_tokens": 7},
        {"gpu_memory": 0.5},
        {"tensor_parallel": 2},
        {"revision": "of the same weights"},
        {"trust_remote_code": True},
    ],
)
def test_how_an_engine_works_does_not_change_the_origin(
    config: MakeConfig, changes: dict[str, Any]
) -> None:
    model = config().model
    changed = config(model=dataclasses.replace(model, **changes))
    assert generation_origin(config()) == generation_origin(changed)


@pytest.mark.parametrize("library", ["c3l_ray", "open_clip", "torch", "transformers", "vllm"])
def test_other_versions_are_another_origin(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    versions = identity.installed_versions("open_clip", "torch", "transformers", "vllm")
    assert None not in versions.values() and not any("+" in str(v) for v in versions.values())
    before = generation_origin(config())
    monkeypatch.setattr(identity, "installed_versions", lambda *_: {**versions, library: "99"})
    assert generation_origin(config()) != before


def test_a_library_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(identity.LIBRARIES, "vllm", ("no-such-distribution",))
    assert identity.installed_versions("vllm") == {"c3l_ray": __version__, "vllm": None}


@pytest.mark.parametrize("model", ["model", "scorer", "clip"])
def test_other_weights_are_another_origin(config: MakeConfig, model: str) -> None:
    assert generation_origin(config()) != generation_origin(config(), **{model: "other"})


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"layout": TurnsLayout(history="no")}, True),
        ({"layout": TurnsLayout(turns="messages")}, True),
        ({"max_pixels": 100}, True),
        ({"layout": TurnsLayout(image_root="elsewhere")}, False),
        ({"pools": ScorerPool(scorers=7)}, False),
    ],
)
def test_the_layout_of_turns_and_their_scoring_define_the_origin(
    changes: dict[str, Any], differs: bool
) -> None:
    fields: dict[str, Any] = {
        "input": ("i",),
        "output": "o",
        "scorer": RequiredScorerModel(name="s"),
    }
    before, after = (
        scoring_identity(ScoreConfig(**{**fields, **more}), scorer="s", clip="c").origin
        for more in ({}, changes)
    )
    assert (before != after) == differs
