"""What an input holds, counted in all of its shards or estimated from some."""

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.planning.estimates import Estimate, estimate_total
from c3l_ray.planning.input_count import count_input, draw_shards


def make_shard(number: int, size: int = 1_000) -> Shard:
    return Shard(format="tar", path=f"/in/{number}.tar", source=f"{number}.tar", size=size)


def make_unit(shard: Shard, rows: int, damage: str | None = None, number: int = 0) -> Unit:
    return Unit(
        name=f"{shard.name}-{number:05d}",
        format=shard.format,
        path=shard.path,
        source=shard.source,
        start=0,
        end=rows,
        rows=rows,
        damage=damage,
    )


def test_few_shards_are_all_counted_and_of_many_some_are_drawn_by_the_seed() -> None:
    shards = [make_shard(number) for number in range(100)]
    assert draw_shards(shards, 100, 0) == shards
    drawn = draw_shards(shards, 10, 0)
    assert len({shard.source for shard in drawn}) == 10
    assert drawn == sorted(drawn, key=shards.index) == draw_shards(shards, 10, 0)
    assert drawn != draw_shards(shards, 10, 1)


def test_each_shard_is_as_likely_to_be_drawn() -> None:
    shards = [make_shard(number) for number in range(10)]
    drawn = [shard for seed in range(2_000) for shard in draw_shards(shards, 3, seed)]
    shares = [drawn.count(shard) / 2_000 for shard in shards]
    assert all(share == pytest.approx(0.3, abs=0.05) for share in shares)


def test_images_and_damages_of_all_shards_are_counted_one_by_one() -> None:
    whole, broken, nothing = shards = [make_shard(number, 500) for number in range(3)]
    units = [
        make_unit(whole, 256),
        make_unit(whole, 44, number=1),
        make_unit(broken, 11, damage="byte 512: no header"),
        make_unit(nothing, 1, damage="its begin: not a tar"),
    ]
    count = count_input(shards, shards, units)
    assert count.is_whole and (count.shards, count.bytes) == (3, 1_500)
    assert count.images == Estimate(value=310.0) and count.units == Estimate(value=4.0)
    assert (count.damaged_shards, count.damage) == (2, "1.tar at byte 512: no header")


def test_small_files_that_are_one_unit_are_counted_as_they_lie() -> None:
    shards = [make_shard(number) for number in range(2)]
    members = [make_unit(shards[0], 3), make_unit(shards[1], 5, damage="row 4: cut")]
    joined = Unit(
        name="j-joined",
        format="joined",
        path=shards[0].path,
        source=shards[0].source,
        start=0,
        end=0,
        rows=8,
        members=members,
    )
    count = count_input(shards, shards, [joined])
    assert (count.images.value, count.units.value, count.damaged_shards) == (7, 1, 1)


def test_shards_that_are_not_counted_hold_as_many_for_their_bytes() -> None:
    shards = [make_shard(number, 100 * (1 + number % 5)) for number in range(50)]
    counted = shards[::5] + shards[1::5]
    rows = [10 + shard.size // 20 for shard in counted]
    count = count_input(shards, counted, list(map(make_unit, counted, rows)))
    assert not count.is_whole and (count.shards, count.counted_shards) == (50, 20)
    sizes = [shard.size for shard in counted]
    expected = estimate_total(rows, sizes, 50, sum(shard.size for shard in shards))
    assert count.images == expected and expected.error
    assert count.units.value == pytest.approx(count.images.value * 20 / sum(rows))


def test_drawn_shards_without_any_image_are_refused() -> None:
    shards = [make_shard(number) for number in range(9)]
    units = [make_unit(shards[0], 0), make_unit(shards[1], 1, damage="its begin: not a tar")]
    message = "--count-shards: none of the 2 drawn shards, of 9, .* damaged is 1.tar at its begin"
    with pytest.raises(PreflightError, match=message):
        count_input(shards, shards[:2], units)
