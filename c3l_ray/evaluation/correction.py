"""The truth of detail answers about scenes before and after correction, sentence by sentence.

    python -m c3l_ray.evaluation.correction RUN

RUN is the output of a jobs.generate run that corrected its answers (--correct, or --method vigc).
VIGC (arXiv 2308.12714) finds that long answers profit most, as a model goes astray late in them: so
the share of true sentences is given by their place in the answer.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from c3l_ray.data.commit import Output
from c3l_ray.errors import C3LError, Refused
from c3l_ray.evaluation.scenes import scene_of
from c3l_ray.methods.sentences import sentences
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import TRUE, judge


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What each sentence of a detail answer is, "true", "false" or "unknown", in their order."""

    draft: tuple[str, ...]
    answer: tuple[str, ...]


def verdicts(tables: Iterable[pa.Table]) -> Iterator[Verdicts]:
    """Of every corrected turn of the kind detail about a scene, in tables of the schema RECORDS."""
    for table in tables:
        for row in table.select(["meta", "turns"]).to_pylist():
            scene = scene_of(row["meta"])
            for turn in row["turns"]:
                if scene is None or turn["kind"] != "detail" or turn["correction"] is None:
                    continue
                yield Verdicts(
                    draft=_each(scene, turn["question"], turn["draft"]),
                    answer=_each(scene, turn["question"], turn["answer"]),
                )


def report(found: Sequence[Verdicts]) -> str:
    """A table: sentences and the true share of them by place, before and after; then of answers."""
    before, after = ([getattr(each, side) for each in found] for side in ("draft", "answer"))
    longest = max((len(each) for each in (*before, *after)), default=0)
    lines = ["sentence    drafts     true   answers     true"]
    for place in range(longest):
        sides = [[each[place] for each in side if len(each) > place] for side in (before, after)]
        lines.append(_line(str(place + 1), *sides))
    lines.append(
        _line("all", *([one for each in side for one in each] for side in (before, after)))
    )
    whole = [[all(one == TRUE for one in each) for each in side] for side in (before, after)]
    changes = Counter(zip(*whole, strict=True))
    lines.append(
        f"wholly true answers: {sum(whole[0])} of {len(found)} before, {sum(whole[1])} after; "
        f"{changes[False, True]} became true, {changes[True, False]} no longer are"
    )
    return "\n".join(lines)


def _each(scene: Scene, question: str, answer: str) -> tuple[str, ...]:
    said = sentences(answer)
    return tuple(judge(scene, {"question": question, "answer": one}) for one in said)


def _line(name: str, *sides: list[str]) -> str:
    shares = (f"{side.count(TRUE) / len(side):.1%}" if side else "-" for side in sides)
    cells = "   ".join(
        f"{len(side):7}  {share:>7}" for side, share in zip(sides, shares, strict=True)
    )
    return f"{name:<8}   {cells}"


def main(path: str) -> None:
    """Prints the report of a run.

    Raises:
        Refused: there is none, or nothing in it to report.
    """
    output = Output(path, "RUN")
    manifests = [manifest for manifest in output.manifests() if manifest.file]
    found = list(verdicts(output.records(each, ["meta", "turns"]) for each in manifests))
    if not found:
        raise Refused(f"RUN {path}: no corrected detail answer about a scene is there")
    print(report(found))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except C3LError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
