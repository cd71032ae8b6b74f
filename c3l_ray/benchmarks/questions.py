"""A benchmark's questions as its official files have them, whatever the format of these."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from c3l_ray.benchmarks.official_files import DATA
from c3l_ray.errors import PreflightError
from c3l_ray.identity import digest_json
from c3l_ray.storage import Location


@dataclass(frozen=True, kw_only=True)
class BenchmarkQuestion:
    """One question of a benchmark.

    Attributes:
        key: names it among the benchmark's questions.
        group: that figures are given for, such as POPE's "adversarial".
        item: that it belongs to with others: the two questions about an image of MME, the turns of
            the options of MMBench. Where a question stands alone, its own key.
        image: file of the image, relative to the folder of images.
        prompt: what the model is asked, without a suffix.
        label: the right answer: "yes" or "no", or the letter of an option.
        options: by letter, what the model chooses from; empty where it says yes or no.
    """

    key: str
    group: str
    item: str
    image: str
    prompt: str
    label: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BenchmarkData:
    """The questions of a benchmark, and where their images lie.

    Attributes:
        questions: in the order of the files, no key twice.
        image_root: folder of the images; None where the files hold the images themselves.
        read_images: the images that the files hold, by the names in the questions; called once
            they are needed.
    """

    questions: list[BenchmarkQuestion]
    image_root: Location | None
    read_images: Callable[[], Iterable[tuple[str, bytes]]] = lambda: ()

    @property
    def digest(self) -> str:
        """A name for the questions: 16 hex digits, the same wherever the files lie."""
        return digest_json([asdict(question) for question in self.questions])


def refuse_doubled_keys(questions: Sequence[BenchmarkQuestion], source: str) -> None:
    """Refuses questions of which two have one key.

    Raises:
        PreflightError: names the key.
    """
    seen = set()
    for question in questions:
        if question.key in seen:
            raise PreflightError(f"{DATA} {source}: two questions are named {question.key!r}")
        seen.add(question.key)


def read_verdict(label: Any, place: str) -> str:
    """A label that is "yes" or "no", in small letters.

    Raises:
        PreflightError: it is something else.
    """
    text = str(label).strip().casefold()
    if text not in ("yes", "no"):
        raise PreflightError(f"{place}: the label {label!r} is neither yes nor no")
    return text
