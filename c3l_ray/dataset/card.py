"""The dataset card: README.md, which says what a dataset is, to the Hub and to its readers.

Its front matter tells the datasets library what to load: without it, the library takes a folder
with images in it for a folder of images only.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from c3l_ray.dataset.report import SelectionReport
from c3l_ray.dataset.score_summary import PERCENTILES
from c3l_ray.methods.scores import SCORES
from c3l_ray.runs.counts import list_counts
from c3l_ray.runs.folder import PARTS

CARD = "README.md"
NUM_SHOWN_INSTRUCTIONS = 10  # of a kind
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
_COLUMNS = {
    "id": "of the sample: the input's own where it had one, else the image's",
    "images": "the image, as a list of one",
    "messages": "the conversation, without a marker for the image, which comes first",
}
_PAIR_COLUMNS = {
    "prompt, chosen, rejected": "the question, and the better and the worse answer, as messages",
    "rejected_response": "the worse answer, as text; `messages` has the better one",
    "pair": "where the other answer comes from: `alternatives` or `correction`",
    "chosen_score, rejected_score": "the score that tells the better answer, of both",
}
_OTHER_COLUMNS = {
    "kind": "of question",
    "turn_id": "the image's id and the place of the turn in the run's record",
    "instruction": "under which the turn was generated, or the system message",
    "image_id, source, key": "the image's id, its shard and its name there",
    "caption, meta": "what lay beside the image",
}

Instructions = Mapping[str, Mapping[str, int]]
"""By kind, the instructions of the written turns, each with how many turns have it."""


def make_card(report: SelectionReport, run: Mapping[str, Any], instructions: Instructions) -> str:
    """The dataset card of a finished selection.

    Args:
        report: what selection.json says.
        run: what run.json of its run says.
        instructions: under which the turns were generated.
    """
    # Importing it takes a while.
    from huggingface_hub import DatasetCardData

    data_files = [{"split": "train", "path": f"{PARTS}/part-*.parquet"}]
    metadata = DatasetCardData(
        license=report.license,
        task_categories=["image-text-to-text", "visual-question-answering"],
        size_categories=[_name_size(report.samples)],
        tags=["c3l-ray", "synthetic"],
        configs=[{"config_name": "default", "data_files": data_files}],
    )
    sections = [
        _describe_selection(report),
        _describe_files(report),
        _describe_columns(report),
        _describe_origin(report, run),
        _describe_counts(report, run),
        _describe_scores(report),
        _list_instructions(instructions),
    ]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _name_size(num_samples: int) -> str:
    """The Hub's word for a number of rows."""
    return next((name for bound, name in _SIZES.items() if num_samples < bound), "n>1M")


def _describe_selection(report: SelectionReport) -> str:
    flags = [f"--by {report.by}", f"--within {report.within}", f"--per {report.per}"]
    flags += [] if report.top is None else [f"--top {report.top:g}"]
    flags += [] if report.at_least is None else [f"--at-least {report.at_least:g}"]
    if report.mix:
        flags.append("--mix " + " ".join(f"{kind}={share:g}" for kind, share in report.mix.items()))
    return (
        f"# {report.turns} question-answer turns about {report.images} images\n\n"
        f"jobs.select of c3l-ray {report.version} kept these turns of {report.scored_turns} scored "
        f"ones, by `{' '.join(flags)}`. `selection.json` has all flags and counts."
    )


def _describe_files(report: SelectionReport) -> str:
    of_row = {"turn": "a turn", "image": "the chosen turns of an image"}[report.group]
    if report.export == "preference":
        of_row = "a better and a worse answer to a question"
    files = {f"{PARTS}/part-*.parquet": f"a row for {of_row}, {_say_which_images(report)}"}
    if report.llava != "none":
        files["llava.json"] = "the same samples in LLaVA's conversation format"
        files["dataset_info.json"] = (
            "by which LLaMA-Factory reads llava.json; `media_dir` is this folder"
            if report.llava == "images"
            else "by which LLaMA-Factory reads llava.json; `media_dir` is the images' folder"
        )
    if report.llava == "images":
        files["images/"] = "the images that llava.json names"
    return _make_table(("file", "content"), files.items()) + (
        f"\n\n{_show_loading(report)}\n\n"
        f"pandas and DuckDB read `{PARTS}/`, where nothing but the Parquet files lies:\n\n"
        f'```python\nimport pandas\n\nframe = pandas.read_parquet("path/of/this/folder/{PARTS}")\n'
        f"```\n\n```sql\nSELECT kind, count(*) FROM 'path/of/this/folder/{PARTS}/*.parquet' "
        "GROUP BY kind;\n```"
    )


def _say_which_images(report: SelectionReport) -> str:
    if not report.rows_without_image:
        return "with its image"
    if report.rows_without_image == report.samples:
        return "with a path in place of its image"
    return f"with its image, or in {report.rows_without_image} rows with a path in its place"


def _show_loading(report: SelectionReport) -> str:
    """How the datasets library loads the rows, also those whose images it cannot decode."""
    load = 'load_dataset("path/of/this/folder", split="train")'
    if not report.rows_without_image:
        return f"```python\nfrom datasets import load_dataset\n\ndataset = {load}\n```"
    return (
        f"{report.rows_without_image} of {report.samples} rows have no bytes of their image, since "
        "the run kept none (`--no-keep-images`): `path` names it as the input did. The datasets "
        "library fails where it decodes such an image; this leaves images as they are:\n\n"
        "```python\nfrom datasets import Image, List, load_dataset\n\n"
        f'dataset = {load}\ndataset = dataset.cast_column("images", List(Image(decode=False)))\n```'
    )


def _describe_columns(report: SelectionReport) -> str:
    is_preference = report.export == "preference"
    scores = {
        "draft": "the answer before its correction",
        "the scores": "as [defined below](#scores)",
    }
    images = {}
    if report.rows_without_image:
        path = "`path` names the image where it has no `bytes`"
        images = {"images": f"a list of one: the image, or {path}"}
    columns = {
        **_COLUMNS,
        **images,
        **(_PAIR_COLUMNS if is_preference else scores),
        **_OTHER_COLUMNS,
    }
    note = (
        "\n\nColumns of turns hold lists, with an element for each turn of the conversation."
        if report.group == "image"
        else ""
    )
    return "## Columns\n\n" + _make_table(("column", "content"), columns.items()) + note


def _describe_origin(report: SelectionReport, run: Mapping[str, Any]) -> str:
    identity, config = run.get("identity", {}), run.get("config", {})
    facts = {"job": f"jobs.{run.get('job')} of c3l-ray {run.get('version')}"}
    for role, part in (("model", "model"), ("scorer", "scorer"), ("clip", "clip")):
        if digest := identity.get(role):
            name = (config.get(part) or {}).get("name")
            if role == "scorer" and name is None:
                name = (config.get("model") or {}).get("name")
            facts[role] = f"{_shorten_path(name)}, weights {digest}"
    for name in ("method", "reply_format", "turns_per_image", "sampling", "correction"):
        if identity.get(name) is not None:
            facts[name.replace("_", " ")] = _list_fields(identity[name])
    facts |= {
        "versions": _list_fields(identity.get("versions") or {}),
        "origin": report.origin,
        "finished": str(report.input_finished or "not yet, when this was selected"),
    }
    return "## How the turns were made\n\n" + _make_table(("", ""), facts.items())


def _describe_counts(report: SelectionReport, run: Mapping[str, Any]) -> str:
    counts = {
        "images of the run": _list_noted(run.get("status")),
        "failed images by reason": _list_noted(run.get("reasons")),
        "turns of the run": _list_noted(run.get("turn_status")),
        "scored turns": str(report.scored_turns),
        "of these refuted by the image (gain < 0), left out": str(report.refuted_turns),
        "of these worse than --at-least, left out": str(report.worse_turns),
        **_describe_excluded(report),
        "images that could not be decoded, left out": str(report.unusable_images),
        "rows without the bytes of their image": str(report.rows_without_image),
        "images that were written as decoded": str(report.rewritten_images),
        "turns here, by kind": _list_noted(report.kinds),
    }
    if report.export == "preference":
        counts["pairs"] = _list_noted(report.pairs)
        counts["chosen turns that make no pair, left out"] = _list_noted(report.unpaired_turns)
    return "## Counts\n\n" + _make_table(("", "count"), counts.items())


def _describe_excluded(report: SelectionReport) -> dict[str, str]:
    counts: dict[str, str] = {}
    if report.exclude_benchmark:
        names = ", ".join(map(_shorten_path, report.exclude_benchmark))
        compared = f"images of benchmarks ({names}) that were compared"
        counts[compared] = str(report.benchmark_images)
        counts["images that a benchmark has too, left out"] = str(report.excluded_images)
    if report.drop_near_duplicates:
        near = "images that look like an earlier one, left out"
        counts[near] = str(report.near_duplicate_images)
    if counts:
        counts["images that could not be compared"] = str(report.not_compared_images)
    return counts


def _describe_scores(report: SelectionReport) -> str:
    if not report.score_percentiles:
        return ""
    header = ("score", *(f"{percent} %" for percent in PERCENTILES), "definition")
    rows = [
        (score.name, *(f"{value:.4g}" for value in percentiles.values()), score.definition)
        for score in SCORES
        if (percentiles := report.score_percentiles.get(score.name))
    ]
    return (
        "## Scores\n\nPercentiles over the turns here. For an answer of T tokens, p_t is the "
        "probability of its token t given the image, the question and the tokens before it under "
        "the scorer, r_t the same without the image, q_t as p_t after the prompt that the turn was "
        "written after; z_t and y_t are the logits behind p_t and r_t. Logarithms are natural.\n\n"
        + _make_table(header, rows)
    )


def _list_instructions(instructions: Instructions) -> str:
    lines: list[str] = []
    for kind, counts in sorted(instructions.items()):
        most_common = sorted(counts.items(), key=lambda item: -item[1])
        lines.append(f"\n{kind}:\n")
        for instruction, count in most_common[:NUM_SHOWN_INSTRUCTIONS]:
            lines.append(f"- {_to_line(instruction)} ({count})")
        if len(counts) > NUM_SHOWN_INSTRUCTIONS:
            lines.append(f"- and {len(counts) - NUM_SHOWN_INSTRUCTIONS} more")
    if not lines:
        return ""
    return "## Prompts\n\nWith how many of the turns here each was sent for.\n" + "\n".join(lines)


def _make_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_to_cell, cells))} |" for cells in lines)


def _to_cell(text: str) -> str:
    return _to_line(text).replace("|", "\\|")


def _to_line(text: str) -> str:
    return " ".join(text.split())


def _list_noted(counts: Mapping[str, int] | None) -> str:
    return "not in run.json" if counts is None else list_counts(counts)


def _list_fields(content: Any) -> str:
    return ", ".join(_list_pairs(content)) if isinstance(content, Mapping) else str(content)


def _list_pairs(content: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name} {value}" for name, value in content.items())


def _shorten_path(name: str | None) -> str:
    """A model's name on the Hub, or the last part of a path, which is of no use elsewhere."""
    if name is None:
        return "without a name"
    return posixpath.basename(name.rstrip("/")) if name.startswith(("/", "s3://", ".")) else name
