"""The rates of the pipeline's bench, of schedules whose rates are known."""

import pytest

from tests.bench.steady import Events, Moments, compare_with_parts, find_window, measure


def make_events(done: Moments, **fields: object) -> Events:
    """Events of a process that starts at 0, works from 10 on and takes half of a core."""
    end = max(moment for moment, _ in done)
    values = {
        "started": 0.0,
        "ended": end + 3,
        "cpu": [(0.0, 0.0), (end, end / 2)],
        "begin": 10.0,
        "done": done,
        **fields,
    }
    return Events(**values)  # type: ignore[arg-type]


def in_units(done: Moments, size: int) -> Moments:
    """The same images, of which so many are noted when the last of them is done."""
    assert all(images == 1 for _, images in done)
    moments = [moment for moment, _ in done]
    return [
        (group[-1], len(group)) for group in (moments[i : i + size] for i in range(0, 512, size))
    ]


ONE_BY_ONE: Moments = [(10 + 4 + number / 8, 1) for number in range(512)]  # 8 a second, filled in 4


@pytest.mark.parametrize("size", [1, 16, 64])
def test_a_rate_does_not_depend_on_how_many_images_are_noted_at_once(size: int) -> None:
    assert measure(make_events(in_units(ONE_BY_ONE, size))).steady_rate == pytest.approx(8)


def test_neither_fill_nor_drain_counts_in_a_rate() -> None:
    last = ONE_BY_ONE[-1][0]
    slow_end = [*ONE_BY_ONE[:-20], *((last + number, 1) for number in range(20))]
    measured = measure(make_events(slow_end))
    assert measured.steady_rate == pytest.approx(8)
    assert measured.drain_s > 19
    assert (measured.boot_s, measured.images) == (10, 512)
    assert measured.cpu_ms == pytest.approx(1000 / 2 / 8)


def test_images_of_one_moment_are_not_counted_by_halves() -> None:
    batches: Moments = [(20.0, 1)] * 16 + [(30.0, 1)] * 16 + [(40.0, 1)] * 16
    window = find_window(10.0, batches)
    assert (window.begin, window.end, window.images) == (20, 40, 32)


def test_a_single_batch_counts_from_the_begin_of_the_work() -> None:
    measured = measure(make_events([(14.0, 8)]))
    assert (measured.steady_rate, measured.drain_s) == (2, 0)


def test_what_is_prepared_beforehand_counts_by_its_share() -> None:
    later = [(moment + 64, images) for moment, images in ONE_BY_ONE]
    measured = measure(make_events(later, handed=74.0))
    assert measured.step_rate == pytest.approx(8)
    assert measured.steady_rate == pytest.approx(1 / (1 / 8 + 64 / 512))


def test_what_is_prepared_beside_the_engine_counts_where_it_is_the_limit() -> None:
    engine_bound = measure(make_events(ONE_BY_ONE, handed=12.0, prepares_beside=True))
    assert engine_bound.steady_rate == pytest.approx(8)
    waiting = [(max(moment, 74.0), images) for moment, images in ONE_BY_ONE]
    ahead = measure(make_events(waiting, handed=74.0, prepares_beside=True))
    assert ahead.steady_rate == pytest.approx(8)


def make_scored(num_ahead: int, *, generator: float, scorer: float) -> Events:
    """A job that has generated some images before its scorer begins, at 20."""
    generated = [20.0] * num_ahead
    generated += [20 + number / generator for number in range(1, 513 - num_ahead)]
    done, free = [], 20.0
    for moment in generated:
        free = max(free, moment) + 1 / scorer
        done.append((free, 1))
    return make_events(done, generated=generated)


@pytest.mark.parametrize("num_ahead", [0, 100, 300])
@pytest.mark.parametrize(("generator", "scorer"), [(8.0, 20.0), (20.0, 8.0)])
def test_turns_made_before_the_scorer_began_are_no_gain(
    num_ahead: int, generator: float, scorer: float
) -> None:
    bare = measure(make_events([(10 + number / generator, 1) for number in range(1, 513)]))
    score = measure(make_events([(10 + number / scorer, 1) for number in range(1, 513)]))
    scored = measure(make_scored(num_ahead, generator=generator, scorer=scorer))
    ratios = compare_with_parts(scored, bare, score, is_shared=False)
    assert ratios["scored_over_parts"] == pytest.approx(1, abs=0.03)


def test_stages_that_share_a_device_take_the_time_of_both() -> None:
    bare = measure(make_events([(10 + number / 8, 1) for number in range(1, 513)]))
    in_turn = [(10 + number / 4, 1) for number in range(1, 513)]
    scored = measure(make_events(in_turn, generated=[moment for moment, _ in in_turn]))
    ratios = compare_with_parts(scored, bare, bare, is_shared=True)
    assert ratios["scored_over_parts"] == pytest.approx(1)
    assert ratios["scored_over_parts_cpu"] == pytest.approx(1)
