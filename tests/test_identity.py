import dataclasses
from typing import Any

import pytest

from c3l_ray.config import (
    ClipModel,
    GenerateConfig,
    GeneratorModel,
    Pools,
    RequiredScorerModel,
    Sampling,
    ScoreConfig,
    ScorerModel,
    ScorerPool,
)
from c3l_ray.identity import Identity, digest_json, generation_identity, scoring_identity
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.methods.vigc import CorrectionRules
from tests.examples import MakeConfig

MODELS = {"model": "m", "scorer": "s", "clip": "c"}


def generation_origin(config: GenerateConfig, **models: str) -> str:
    return generation_identity(config, **{**MODELS, **models}).origin


def test_an_origin_is_the_digest_of_the_content_whatever_its_order() -> None:
    identity = Identity({"a": 1, "b": [2]})
    assert identity.origin == digest_json({"b": [2], "a": 1})
    assert len(identity.origin) == 16 and int(identity.origin, 16) >= 0
    assert identity.origin != Identity({"a": 1, "b": [3]}).origin


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


@pytest.mark.parametrize(
    "changes",
    [
        {"input": ("elsewhere",)},
        {"output": "elsewhere"},
        {"pools": Pools(generators=7)},
        {"scorer": ScorerModel(max_tokens=3, pack=False)},
        {"clip": ClipModel(name="the same weights elsewhere")},
        {"max_failed_share": 0.5},
    ],
)
def test_how_and_where_a_job_runs_does_not_change_the_origin(
    config: MakeConfig, changes: dict[str, Any]
) -> None:
    assert generation_origin(config()) == generation_origin(config(**changes))


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
