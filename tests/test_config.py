import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from c3l_ray.config import Clip, GenerateConfig, Model, NamedScorer, Pools, Sampling, ScoreConfig, Scorer, ScorerPool, SelectConfig, TurnsLayout
from c3l_ray.errors import PreflightError
from c3l_ray.methods.vigc import CorrectionRules
from c3l_ray.identity import digest, facts, score_facts

Make = Callable[..., GenerateConfig]
IDENTITIES = {"model": "m", "scorer": "s", "clip": "c"}


@pytest.mark.parametrize(
    ("make", "flag"),
    [
        (lambda: Model(name="m", max_seqs=0), "--model.max-seqs 0"),
        (lambda: Model(name="m", tensor_parallel=0), "--model.tensor-parallel 0"),
        (lambda: Model(name="m", gpu_memory=1.5), "--model.gpu-memory 1.5"),
        (lambda: Sampling(temperature=-1), "--sampling.temperature -1"),
        (lambda: Sampling(temperature=float("nan")), "--sampling.temperature nan"),
        (lambda: Sampling(top_p=0), "--sampling.top-p 0"),
        (lambda: Sampling(max_tokens=0), "--sampling.max-tokens 0"),
        (lambda: Scorer(max_tokens=0), "--scorer.max-tokens 0"),
        (lambda: Pools(generators=0), "--pools.generators 0"),
        (lambda: Pools(scorer_gpus=-1), "--pools.scorer-gpus -1"),
        (lambda: SelectConfig(input="i", top=0), "--top 0"),
        (lambda: SelectConfig(input="i", top=1.1), "--top 1.1"),
    ],
)
def test_a_wrong_value_names_its_flag(make: Callable[[], Any], flag: str) -> None:
    with pytest.raises(PreflightError, match=flag):
        make()


@pytest.mark.parametrize(
    ("field", "value"), [("turns", 0), ("max_pixels", 0), ("max_failed_share", 2.0)]
)
def test_a_wrong_value_of_the_job_names_its_flag(config: Make, field: str, value: float) -> None:
    with pytest.raises(PreflightError, match=f"--{field.replace('_', '-')} {value}"):
        config(**{field: value})


@pytest.mark.parametrize(
    "changed",
    [
        {"turns": 3},
        {"reply_format": "json"},
        {"max_pixels": 100},
        {"images": False},
        {"method": "vigc"},
        {"correct": True},
        {"sampling": Sampling(temperature=0.1)},
        {"model": Model(name="m", dtype="bfloat16")},
        {"scorer": Scorer(dtype="bfloat16")},
    ],
)
def test_what_defines_a_row_changes_the_origin(config: Make, changed: dict[str, Any]) -> None:
    before, after = facts(config(), **IDENTITIES), facts(config(**changed), **IDENTITIES)
    assert digest(before) != digest(after)


@pytest.mark.parametrize(
    "changed",
    [
        {"style": "vig"},
        {"context": "fresh"},
        {"unit": "paragraph"},
        {"rounds": 3},
        {"detail_rounds": 3},
        {"last_whole": True},
        {"max_tokens": 10},
        {"temperature": 0.5},
        {"repetition_penalty": 1.5},
        {"beams": 5},
    ],
)
def test_how_answers_are_corrected_changes_the_origin_where_they_are(
    config: Make, changed: dict[str, Any]
) -> None:
    assert set(changed) < {field.name for field in dataclasses.fields(CorrectionRules)}
    for fields, alike in (({"correct": True}, False), ({"method": "vigc"}, False), ({}, True)):
        before = facts(config(**fields), **IDENTITIES)
        after = facts(config(**fields, correction=CorrectionRules(**changed)), **IDENTITIES)
        assert (digest(before) == digest(after)) is alike


@pytest.mark.parametrize(
    "changed",
    [
        {"input": ("elsewhere",)},
        {"output": "elsewhere"},
        {"pools": Pools(generators=7)},
        {"scorer": Scorer(max_tokens=3, pack=False)},
        {"clip": Clip(name="the same weights elsewhere")},
        {"max_failed_share": 0.5},
    ],
)
def test_how_and_where_it_runs_does_not(config: Make, changed: dict[str, Any]) -> None:
    before, after = facts(config(), **IDENTITIES), facts(config(**changed), **IDENTITIES)
    assert digest(before) == digest(after)


def score_config(**changed: Any) -> ScoreConfig:
    return ScoreConfig(
        **{"input": ("i",), "output": "o", "scorer": NamedScorer(name="s"), **changed}
    )


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"layout": TurnsLayout(history="no")}, True),
        ({"layout": TurnsLayout(turns="messages")}, True),
        ({"max_pixels": 100}, True),
        ({"layout": TurnsLayout(image_root="elsewhere")}, False),
        ({"pools": ScorerPool(scorers=7)}, False),
    ],
)
def test_what_defines_given_turns_and_their_scores(changed: dict[str, Any], differs: bool) -> None:
    before, after = (
        score_facts(each, scorer="s", clip="c")
        for each in (score_config(), score_config(**changed))
    )
    assert (digest(before) != digest(after)) == differs


@pytest.mark.parametrize("model", ["model", "scorer", "clip"])
def test_other_weights_are_another_origin(config: Make, model: str) -> None:
    before = facts(config(), **IDENTITIES)
    assert digest(before) != digest(facts(config(), **{**IDENTITIES, model: "other"}))


@pytest.mark.parametrize(
    "concern",
    [
        GenerateConfig,
        ScoreConfig,
        SelectConfig,
        Model,
        Sampling,
        CorrectionRules,
        Scorer,
        NamedScorer,
        Clip,
        Pools,
        TurnsLayout,
    ],
)
def test_every_flag_has_a_help_text(concern: type) -> None:
    import inspect
    import re

    source = "".join(inspect.getsource(each) for each in concern.__mro__[:-1])
    for field in dataclasses.fields(concern):
        if dataclasses.is_dataclass(field.type) or field.name in ("model",):
            continue
        declared = rf"    {field.name}: [^\n]+\n"
        assert re.search(declared, source), field.name
        if "default_factory" not in re.search(declared, source).group():  # type: ignore[union-attr]
            assert re.search(declared + r'    """', source), field.name
