"""The truth of answers about scenes before and after correction.

    python -m c3l_ray.evaluation.correction RUN

RUN is the output of a jobs.generate run that corrected its answers (--correct, or --method vigc).
VIGC (arXiv 2308.12714) finds that long answers profit most, as a model goes astray late in them: so
the share of true sentences in detail answers is given by their place. Then it says how much of all
answers is true, and of the tenth that various scores would keep, before and after.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from c3l_ray.runs.folder import Output
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.evaluation.judgement import scene_of
from c3l_ray.methods.ranking import LOWER_IS_BETTER
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import TRUE, judge

TOP = 0.1
RANKED_BY = ("i2c", "i2c_vocab", "gain", "visual_ifd", "image_logprob")


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What each sentence of an answer is, "true", "false" or "unknown", in their order.

    An answer that is not of the kind detail is judged whole, as one.
    """

    kind: str
    draft: tuple[str, ...]
    answer: tuple[str, ...]
    draft_scores: Mapping[str, float | None]
    answer_scores: Mapping[str, float | None]


def verdicts(tables: Iterable[pa.Table]) -> Iterator[Verdicts]:
    """Of every corrected turn about a scene, in tables of the schema RECORDS."""
    for table in tables:
        for row in table.select(["meta", "turns"]).to_pylist():
            scene = scene_of(row["meta"])
            for turn in row["turns"]:
                if scene is None or turn["correction"] is None:
                    continue
                yield Verdicts(
                    kind=turn["kind"],
                    draft=_each(scene, turn, turn["draft"]),
                    answer=_each(scene, turn, turn["answer"]),
                    draft_scores=turn["draft_scores"] or {},
                    answer_scores=turn["scores"] or {},
                )


def report(found: Sequence[Verdicts]) -> str:
    """The tables: detail answers' sentences by place; all answers; what scores would keep."""
    return "\n\n".join([by_place(found), whole(found), kept(found)])


def by_place(found: Sequence[Verdicts]) -> str:
    """Sentences of detail answers and the true share of them by place, before and after."""
    detail = [each for each in found if each.kind == "detail"]
    before, after = ([getattr(each, side) for each in detail] for side in ("draft", "answer"))
    longest = max((len(each) for each in (*before, *after)), default=0)
    lines = ["sentence      drafts     true   answers     true"]
    for place in range(longest):
        sides = [[each[place] for each in side if len(each) > place] for side in (before, after)]
        lines.append(_line(str(place + 1), *sides))
    lines.append(
        _line("all", *([one for each in side for one in each] for side in (before, after)))
    )
    return "\n".join(lines)


def whole(found: Sequence[Verdicts]) -> str:
    """Answers that are wholly true, by kind, and how many became so or no longer are."""
    lines = ["answer        drafts     true   answers     true   became true   no longer true"]
    for kind in (*sorted({each.kind for each in found}), "all"):
        of_kind = [each for each in found if kind in (each.kind, "all")]
        sides = [[_truth(getattr(each, side)) for each in of_kind] for side in ("draft", "answer")]
        changes = Counter(zip(*([each == TRUE for each in side] for side in sides), strict=True))
        line = _line(kind, *sides)
        lines.append(f"{line}   {changes[False, True]:11}   {changes[True, False]:14}")
    return "\n".join(lines)


def kept(found: Sequence[Verdicts]) -> str:
    """The true share of the tenth of drafts, and of answers, that scores rank highest."""
    lines = [f"top {TOP:.0%} by    drafts     true   answers     true"]
    for score in RANKED_BY:
        sides = []
        for side in ("draft", "answer"):
            values = [getattr(each, f"{side}_scores").get(score) for each in found]
            there = [i for i, value in enumerate(values) if value is not None]
            sign = 1 if score == LOWER_IS_BETTER else -1
            ranked = sorted(there, key=lambda i: sign * values[i])
            best = ranked[: max(1, round(TOP * len(ranked)))]
            sides.append([_truth(getattr(found[i], side)) for i in best])
        lines.append(_line(score, *sides))
    return "\n".join(lines)


def _each(scene: Scene, turn: Mapping[str, Any], answer: str) -> tuple[str, ...]:
    said = split_sentences(answer) if turn["kind"] == "detail" else [answer]
    return tuple(judge(scene, {"question": turn["question"], "answer": one}) for one in said)


def _truth(verdict: Sequence[str]) -> str:
    return TRUE if verdict and all(one == TRUE for one in verdict) else "not"


def _line(name: str, *sides: list[str]) -> str:
    shares = (f"{side.count(TRUE) / len(side):.1%}" if side else "-" for side in sides)
    cells = "   ".join(
        f"{len(side):7}  {share:>7}" for side, share in zip(sides, shares, strict=True)
    )
    return f"{name:<13}{cells}"


def main(path: str) -> None:
    """Prints the report of a run.

    Raises:
        PreflightError: there is none, or nothing in it to report.
    """
    output = Output(path, "RUN")
    manifests = [manifest for manifest in output.manifests() if manifest.file]
    found = list(verdicts(output.records(each, ["meta", "turns"]) for each in manifests))
    if not found:
        raise PreflightError(f"RUN {path}: no corrected answer about a scene is there")
    print(report(found))
    taken = (output.read_json("run.json") or {}).get("correction_tokens")
    if taken:
        print(f"\ncorrection generated {taken['generated']} tokens and kept {taken['kept']}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except C3LError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
