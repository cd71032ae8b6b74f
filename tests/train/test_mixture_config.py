import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.train.mixture_config import MAX_SETS, Mixture

KINDS = ("llava/detail_23k.json=detail", "part-*=short")


@pytest.mark.parametrize(
    ("kind", "source", "set_name", "taught_kind"),
    [
        ("reasoning", "a.tar", "reasoning", "reasoning"),
        ("yes_no", "part-1", "yes_no", "yes_no"),
        ("given", "llava/detail_23k.json", "llava/detail_23k.json", "detail"),
        ("given", "some/part-7.parquet", "part-*", "short"),
        ("given", "llava/conversation_58k.json", "llava/conversation_58k.json", "dialogue"),
        ("follow_up", "llava/detail_23k.json", None, None),
        ("else", "a.tar", None, None),
    ],
)
def test_a_turn_belongs_to_the_set_of_its_kind_or_source(
    kind: str, source: str, set_name: str | None, taught_kind: str | None
) -> None:
    mixture = Mixture(kinds=KINDS)
    assert mixture.find_set(kind, source) == set_name
    if taught_kind is not None:
        assert mixture.find_kind(kind, source) == taught_kind


@pytest.mark.parametrize(
    ("kinds", "num_sets", "message"),
    [
        (
            ("b.json=detail",),
            1,
            "--mixture.kinds b.json=detail: matches no input file; inputs are a.json",
        ),
        ((), MAX_SETS + 1, "65 sets to draw turns from, and at most 64"),
    ],
)
def test_sets_that_cannot_be_mixed_are_refused(
    kinds: tuple[str, ...], num_sets: int, message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        Mixture(kinds=kinds).check_sets([str(number) for number in range(num_sets)], ["a.json"])
    Mixture(kinds=("a.*=short",)).check_sets(["a.json"], ["a.json"])
