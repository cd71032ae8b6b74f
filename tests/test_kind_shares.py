import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.kind_shares import apportion, find_largest_total, parse_shares


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("detail",), "must be KIND=SHARE .* detail is not"),
        (("=1",), "must be KIND=SHARE .* =1 is not"),
        (("a=0", "b=1"), "a=0 is not"),
        (("a=nan",), "a=nan is not"),
        (("a=1.5",), "a=1.5 is not"),
        (("a=0.5", "a=0.5"), "names a twice"),
        (("a=0.5", "b=0.4"), "must add up to 1, and they add up to 0.9"),
    ],
)
def test_what_is_no_share_is_told(entries: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_shares(entries)


def test_shares_are_parsed() -> None:
    assert parse_shares(("detail=0.1", "yes_no=0.2", "short=0.7")) == {
        **{"detail": 0.1, "yes_no": 0.2},
        "short": 0.7,
    }
    assert parse_shares(()) == {}


def test_what_is_left_goes_to_the_largest_remainders() -> None:
    assert apportion(10, {"a": 0.45, "b": 0.35, "c": 0.2}) == {"a": 5, "b": 3, "c": 2}
    assert apportion(10, {"a": 0.3, "b": 0.7}) == {"a": 3, "b": 7}
    assert apportion(1, {"a": 0.2, "b": 0.4, "c": 0.4}) == {"a": 0, "b": 1, "c": 0}
    # Quotas of 3.5 and 0.5 are equals, though the float 0.1 is a little more than a tenth.
    assert apportion(5, {"a": 0.7, "b": 0.1, "c": 0.2}) == {"a": 4, "b": 0, "c": 1}


@given(st.integers(0, 10_000), st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_counts_add_up_and_are_within_one_of_their_share(total: int, weights: list[int]) -> None:
    shares = {str(place): weight / sum(weights) for place, weight in enumerate(weights)}
    counts = apportion(total, shares)
    assert sum(counts.values()) == total
    assert all(abs(counts[kind] - total * share) < 1.001 for kind, share in shares.items())


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 99))
def test_the_largest_total_is_the_last_that_there_is_enough_for(
    first: int, second: int, percent: int
) -> None:
    shares = {"a": percent / 100, "b": (100 - percent) / 100}
    available = {"a": first, "b": second}
    fitting = [
        total
        for total in range(first + second + 1)
        if all(count <= available[kind] for kind, count in apportion(total, shares).items())
    ]
    assert find_largest_total(available, shares) == max(fitting)
