"""The whole pipeline against the bare engine and what others do: `python -m tests.bench.pipeline`.

The same model, images, prompts, sampling, threads and steps of the engine; every arm is a process
of its own, and every other round takes the arms in reverse. Rates are of the steady state: boot and
drain stand apart. Cells are the shipped tiny model over scenes, the same over photographs of 640 x
480 to 1,600 x 1,200 pixels, and a random model of about 100M parameters over photographs. `--quick`
takes the first alone, with 16 images and one round: it shows that every arm runs, and its rates
mean nothing. `--model.name NAME` takes that model over photographs instead, on a GPU where there is
one. A round that would not end within `--minutes` is left out, and a line says so. On a machine
that does other work too, only CPU milliseconds and their ratios (`*_cpu_*`) can be compared. Ends
with lines `ratio NAME MEDIAN MIN MAX`.
"""

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.pipeline_cells import (
    BATCHED,
    Cell,
    Round,
    describe_machine,
    list_cells,
    run_rounds,
)
from tests.bench.pipeline_work import Setting
from tests.bench.steady import Measurement, compare_with_parts
from tests.bench.token_rate import (
    compute_token_rate,
    make_throughput_command,
    measure_throughput,
)

NAMES = {
    "bare": "bare: vLLM's offline loop",
    "ours": "ours: jobs.generate --no-score",
    "ray": "plain Ray: a blocking generate a batch",
    "hf": "Hugging Face: generate by batch",
    "score": "bare packed scoring, CLIP",
    "scored": "ours: jobs.generate, scored",
}
NAMES_IN_RATIOS = {"ray": "plain_ray", "hf": "hf"}
COLUMNS = ("steady_rate", "cpu_ms", "boot_s", "drain_s", "tokens")


def median_of(measured: list[Measurement], field: str) -> float:
    return float(statistics.median(getattr(one, field) for one in measured))


def find_best_sizes(rounds: list[Round]) -> dict[str, int]:
    """Of each arm, the batch size of the highest median rate; 0 for arms without batches."""
    rates: dict[tuple[str, int], list[Measurement]] = {}
    for results in rounds:
        for key, measured in results.items():
            rates.setdefault(key, []).append(measured)
    best: dict[str, int] = {}
    for arm, size in sorted(rates, key=lambda key: median_of(rates[key], "steady_rate")):
        best[arm] = size
    return best


def compute_ratios(
    results: Round, best_sizes: dict[str, int], *, is_shared: bool
) -> dict[str, float]:
    """Of one round: rates over the bare engine's, and CPU times of the bare engine over others'."""
    at_best = {
        arm: measured for (arm, size), measured in results.items() if size == best_sizes[arm]
    }
    ratios: dict[str, float] = {}
    if not {"bare", "ours"} <= at_best.keys():  # one of them failed
        return ratios
    bare = at_best["bare"]
    for arm in ("ours", *BATCHED):
        if arm in at_best:
            ratios[f"{arm}_over_bare"] = at_best[arm].steady_rate / bare.steady_rate
            ratios[f"{arm}_over_bare_cpu"] = bare.cpu_ms / at_best[arm].cpu_ms
            if arm == "ours":
                ratios["ours_over_bare_steps"] = at_best[arm].steady_rate / bare.step_rate
            else:
                ratios[f"ours_over_{NAMES_IN_RATIOS[arm]}"] = (
                    at_best["ours"].steady_rate / at_best[arm].steady_rate
                )
    if {"score", "scored"} <= at_best.keys():
        ratios |= compare_with_parts(at_best["scored"], bare, at_best["score"], is_shared=is_shared)
    return ratios


def list_ratio_lines(cell: str, of_rounds: list[dict[str, float]]) -> list[str]:
    """`ratio NAME MEDIAN MIN MAX` of each ratio, over the rounds that have it."""
    lines = []
    for name in dict.fromkeys(name for of_round in of_rounds for name in of_round):
        values = [of_round[name] for of_round in of_rounds if name in of_round]
        median = statistics.median(values)
        lines.append(f"ratio {name}_{cell} {median:.3f} {min(values):.3f} {max(values):.3f}")
    return lines


def print_table(rounds: list[Round], best_sizes: dict[str, int]) -> None:
    """Medians over the rounds, of the peers for each batch size."""
    print("| arm | rounds | images/s | CPU ms an image | boot s | drain s | tokens |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    keys = dict.fromkeys(key for results in rounds for key in results)
    for arm, size in sorted(keys, key=lambda key: (list(NAMES).index(key[0]), key[1])):
        of_arm = [results[arm, size] for results in rounds if (arm, size) in results]
        rate, cpu_ms, boot_s, drain_s, tokens = (median_of(of_arm, name) for name in COLUMNS)
        is_best = size == best_sizes[arm] and sum(other == arm for other, _ in keys) > 1
        batch = f" of {size}{', the best' if is_best else ''}" if size else ""
        print(
            f"| {NAMES[arm]}{batch} | {len(of_arm)} | {rate:.2f} | {cpu_ms:.1f} | {boot_s:.1f} "
            f"| {drain_s:.1f} | {tokens:.0f} |"
        )
    bare = [
        measured for results in rounds for (arm, _), measured in results.items() if arm == "bare"
    ]
    if not bare:
        return
    prepared_s = 1 / median_of(bare, "steady_rate") - 1 / median_of(bare, "step_rate")
    print(
        f"of the bare loop, {1000 * prepared_s:.1f} ms an image prepare requests before the steps"
    )


def report_tokens(cell: Cell, setting: Setting, rounds: list[Round]) -> list[str]:
    """Prints output tokens per second beside vLLM's own bench; on a GPU, the lines of the ratio."""
    by_arm = {
        arm: [results[arm, 0] for results in rounds if (arm, 0) in results]
        for arm in ("ours", "bare")
    }
    if not all(by_arm.values()):
        return []
    rates = {
        arm: statistics.median(map(compute_token_rate, measured))
        for arm, measured in by_arm.items()
    }
    print(f"output tokens/s: ours {rates['ours']:.1f}, bare {rates['bare']:.1f}")
    if cell.model is None or cell.name != "model":
        return []
    command = make_throughput_command(setting, by_arm["bare"][0])
    print(f"to compare with: {shlex.join(command)}")
    if not setting.on_gpu:
        return []
    throughput = measure_throughput(command, setting.environment())
    if throughput is None:
        print("vLLM's command is not here, so that nothing was compared")
        return []
    print(f"it gives {throughput:.1f} output tokens/s")
    ratios = [compute_token_rate(measured) / throughput for measured in by_arm["ours"]]
    return list_ratio_lines(cell.name, [{"ours_over_throughput": ratio} for ratio in ratios])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the tiny model, 16 images, one round")
    parser.add_argument("--model.name", dest="model_name", help="a model in place of all cells")
    parser.add_argument("--images", type=int, help="of each cell")
    parser.add_argument("--repeats", type=int, help="rounds at most (default: 3)")
    parser.add_argument(
        "--peer-repeats", type=int, default=1, help="rounds with peers, and with scores of tiny"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16], help="that peers try")
    parser.add_argument("--minutes", type=float, default=24, help="after which no round ends")
    parser.add_argument(
        "--without", nargs="*", default=[], choices=[*BATCHED, "score", "scored"], help="arms"
    )
    return parser


def main() -> int:
    options = make_parser().parse_args()
    cells = list_cells(quick=options.quick, model=options.model_name, num_images=options.images)
    print(describe_machine(), flush=True)
    started, lines = time.monotonic(), []
    with tempfile.TemporaryDirectory() as temporary:
        results = run_rounds(
            cells,
            Path(temporary),
            repeats=options.repeats or (1 if options.quick else 3),
            num_once=options.peer_repeats,
            without=tuple(options.without),
            batch_sizes=options.batch_sizes,
            minutes=options.minutes,
        )
        for cell in cells:
            of_cell, setting = results.rounds[cell.name], results.settings[cell.name]
            best_sizes = find_best_sizes(of_cell)
            print(f"\n{cell.name}, {cell.num_images} images, {len(of_cell)} rounds")
            print_table(of_cell, best_sizes)
            if "score" in (*cell.repeated, *cell.once) and "scored" not in best_sizes:
                print("nothing was scored: it was not asked for, or too few turns can be read")
            ratios = [
                compute_ratios(results, best_sizes, is_shared=setting.on_gpu) for results in of_cell
            ]
            lines += list_ratio_lines(cell.name, ratios)
            lines += report_tokens(cell, setting, of_cell)
    print(f"\n{(time.monotonic() - started) / 60:.0f} min in all")
    print("\n".join(["", *results.failures, *lines]))
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
