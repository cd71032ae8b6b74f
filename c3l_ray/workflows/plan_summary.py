"""A plan as text for the person at the terminal."""

import textwrap
from collections.abc import Callable, Iterator

from c3l_ray.planning.cost import Plan
from c3l_ray.planning.estimates import Interval
from c3l_ray.runs.turn_tables import make_printable

COLUMNS = 96  # of the sentences
UNITS_OF_BYTES = ("bytes", "kB", "MB", "GB", "TB", "PB")


def summarize_plan(plan: Plan) -> str:
    """What a run will cost, with an interval of every figure that is none, and what is assumed."""
    return "\n".join(
        [
            f"plan of {make_printable(plan.output)}, intervals of {plan.confidence:.0%}",
            *_describe_input(plan),
            *_describe_run(plan),
            *_describe_costs(plan),
            *_list_sentences("assumed", plan.assumptions),
            *(f"  over     {excess}" for excess in plan.over_budget),
        ]
    )


def _describe_input(plan: Plan) -> Iterator[str]:
    counted = plan.counted_shards
    shards = "" if counted == plan.shards else f", counted in {counted:,} drawn ones"
    yield f"  input    {_count(plan.shards, 'shard')}, {format_bytes(plan.bytes)}{shards}"
    yield f"  images   {_format(plan.images, _format_count)}"
    if plan.damaged_shards:
        yield (
            f"  damaged  {plan.damaged_shards:,} of {counted:,} counted shards, for example "
            f"{make_printable(plan.damage or '')}"
        )
    if plan.done_images:
        yield f"  done     {plan.done_images:,} images are committed in the output already"
        yield f"  left     {_format(plan.images_left, _format_count)} images"


def _describe_run(plan: Plan) -> Iterator[str]:
    failures = ", ".join(f"{word} {count:,}" for word, count in plan.sampled_failures.items())
    yield f"  sample   {plan.sampled_images:,} images" + (
        f", failed {failures}" if failures else ""
    )
    seconds = plan.seconds
    yield (
        f"  seconds  an image takes a generator {seconds['generate']:.3g} s and a scorer "
        f"{seconds['score']:.3g} s; the boot {seconds['boot']:.0f} s"
    )
    yield f"  turns    {_format(plan.turns, _format_count)}"
    yield f"           usable {_format(plan.usable_turns, _format_count)}"
    yield (
        f"  speed    {_format(plan.images_per_s, _format_number)} images/s by "
        f"{_count(plan.generators, 'generator')} and {_count(plan.scorers, 'scorer')} on "
        f"{_count(plan.devices, plan.device)}"
    )


def _describe_costs(plan: Plan) -> Iterator[str]:
    yield f"  hours    {_format(plan.hours, _format_number)}, with the boot"
    end = plan.end
    times = [end["value"], end["low"], end["high"]]
    value, low, high = (time[:16].replace("T", " ") if time else "?" for time in times)
    yield f"  end      {value} UTC ({low} to {high}), if begun now"
    yield f"  devices  {_format(plan.device_hours, _format_number)} {plan.device}-hours"
    if plan.price is not None:
        yield (
            f"  price    {_format(plan.price, _format_price)} at {plan.price_per_hour:g} a "
            f"{plan.device}-hour"
        )
    yield f"  output   {_format(plan.output_bytes, format_bytes)}"
    yield f"  files    {_format(plan.files, _format_count)}"


def _list_sentences(title: str, sentences: list[str]) -> Iterator[str]:
    for number, sentence in enumerate(sentences):
        first = f"  {title if number == 0 else '':<9}- "
        yield from textwrap.wrap(
            sentence,
            COLUMNS,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_on_hyphens=False,
        )


def format_bytes(size: float) -> str:
    """Bytes in the largest unit, a power of 1000, of which it is at least one."""
    for unit in UNITS_OF_BYTES[:-1]:
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} {UNITS_OF_BYTES[-1]}"


def _format(interval: Interval, show: Callable[[float], str]) -> str:
    """A figure with its interval, where that is not the figure alone."""
    if interval.low == interval.high == interval.value:
        return show(interval.value)
    ends = ["?" if end is None else show(end) for end in (interval.low, interval.high)]
    return f"{show(interval.value)} ({ends[0]} to {ends[1]})"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _format_count(number: float) -> str:
    return f"{round(number):,}"


def _format_number(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _format_price(number: float) -> str:
    return f"{number:,.2f}"
