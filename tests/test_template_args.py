import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.model_config import GeneratorModel, ScorerModel
from c3l_ray.ranges import check_config
from c3l_ray.template_args import format_template_args, parse_template_args
from c3l_ray.train.training_config import ModelToTune


def test_values_are_json() -> None:
    texts = ("enable_thinking=false", 'effort="low"', "budget=3", 'names=["a=b"]', "none=null")
    args = parse_template_args(texts)
    assert args == {
        "enable_thinking": False,
        "effort": "low",
        "budget": 3,
        "names": ["a=b"],
        "none": None,
    }
    assert parse_template_args(format_template_args(args)) == args
    assert list(format_template_args(args)) == sorted(format_template_args(args))


@pytest.mark.parametrize("config", [GeneratorModel, ScorerModel, ModelToTune])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enable_thinking", "must be NAME=JSON, such as enable_thinking=false"),
        ("=false", "must be NAME=JSON"),
        ("a b=false", "must be NAME=JSON"),
        ("enable_thinking=False", "False is no JSON"),  # a template would take the word for true
        ("effort=low", "low is no JSON"),
        ("effort=", "nothing is no JSON"),
    ],
)
def test_a_wrong_argument_is_refused_by_its_flag(config: type, text: str, message: str) -> None:
    with pytest.raises(PreflightError) as refusal:
        check_config(config(name="m", template_args=(text,)))
    assert str(refusal.value).startswith(f"--template-args {text}: ")
    assert message in str(refusal.value)
