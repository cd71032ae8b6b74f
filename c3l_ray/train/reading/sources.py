"""What a training reads: the records of a run, or a LLaVA dataset as it lies."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.runs.commit import Manifest, read_file, read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Record
from c3l_ray.train.reading.llava_source import LlavaSource, is_llava_json
from c3l_ray.train.reading.scan import RecordFiles
from c3l_ray.train.training_config import TrainConfig

NUM_READERS = 8  # of files, at the same time

log = logging.getLogger(__name__)


class Source(Protocol):
    """Files of records, wherever they come from. It travels to the tasks that read."""

    @property
    def origin(self) -> str:
        """Of the run that made the records; empty for a dataset."""

    @property
    def max_pixels(self) -> int | None:
        """To how many pixels the run that made the records shrank larger images; else None."""

    def digests(self) -> list[str]:
        """Names for the content of each file.

        Raises:
            PreflightError: a file cannot be read.
        """

    def texts(self) -> RecordFiles:
        """All records with their `meta`, questions and answers, without images and scores.

        Raises:
            PreflightError: a file cannot be read.
        """

    def read(self, address: str, rows: Sequence[int]) -> list[Record]:
        """Rows of a file, by its address and their numbers, with their images.

        Raises:
            C3LError: the file cannot be read.
        """


@dataclass(frozen=True)
class RecordsSource:
    """The records of a run.

    Attributes:
        folder: of the run.
        origin: of its records.
        max_pixels: to which its models saw larger images shrunk, where its report says so.
    """

    folder: RunFolder
    origin: str
    max_pixels: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordsSource, (
            self.folder,
            self.origin,
            self.max_pixels,
        )  # tasks that read need no manifests

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Of the files that were committed when they were first looked up."""
        return [manifest for manifest in read_manifests(self.folder) if manifest.file]

    def digests(self) -> list[str]:
        return [file_address(manifest) for manifest in self.manifests]

    def texts(self) -> RecordFiles:
        turn_fields = ("kind", "status", "question", "answer")
        return self.read_columns(("image_id", "source", "status", "meta"), turn_fields)

    def read_columns(
        self, columns: Sequence[str], turn_fields: Sequence[str]
    ) -> Iterator[tuple[str, list[Record]]]:
        """Some columns of the records, file by file as `file_address` names them.

        Args:
            columns: of a record, beside its turns.
            turn_fields: of each turn; `scores.i2c` is one.

        Raises:
            C3LError: a file cannot be read.
        """
        nested = (f"turns.list.element.{field}" for field in turn_fields)
        read_table = partial(read_records, self.folder, columns=[*columns, *nested])
        pending: deque[tuple[Manifest, Future[Any]]] = deque()

        def take_first() -> tuple[str, list[Record]]:
            manifest, table = pending.popleft()
            records: list[Record] = table.result().to_pylist()
            return file_address(manifest), records

        with ThreadPoolExecutor(NUM_READERS) as readers:
            for manifest in self.manifests:
                pending.append((manifest, readers.submit(read_table, manifest)))
                if len(pending) > 2 * NUM_READERS:  # more would fill the memory
                    yield take_first()
            while pending:
                yield take_first()

    def read(self, address: str, rows: Sequence[int]) -> list[Record]:
        file, digest = address.split(" ")
        records: list[Record] = read_file(self.folder, file, digest).take(list(rows)).to_pylist()
        return records


def file_address(manifest: Manifest) -> str:
    """A committed file's name and its digest, which is all that reading it takes."""
    return f"{manifest.file} {manifest.digest}"


def open_source(config: TrainConfig) -> Source:
    """What --input names.

    Raises:
        PreflightError: it cannot be learnt from.
    """
    spec = config.objective_spec
    if spec.draws_single_turns and config.input and is_llava_json(config.input):
        layout = TurnsLayout(image_root=config.layout.image_root, history=config.layout.history)
        return LlavaSource(config.input, layout)
    if len(config.input) != 1:
        paths = " ".join(config.input)
        raise PreflightError(f"--input {paths}: must be the output folder of one run")
    folder = RunFolder.open(config.input[0], "--input")
    report = folder.read_run()
    if not report["identity"]["keep_images"]:
        raise PreflightError(
            f"--input {folder.path}: its records hold no images (they were made with "
            "--no-keep-images), and training needs them"
        )
    weighs_tokens = config.objective == "c3l" and config.contrast.token_weights == "vig"
    if weighs_tokens and not report["identity"].get("token_gains"):
        raise PreflightError(
            f"--contrast.token-weights vig: the records in {folder.path} hold no token gains; make "
            "them with --token-gains of jobs.generate or jobs.score"
        )
    if report["finished"] is None:
        log.warning("the run in %s is not finished; training uses what it has now", folder.path)
    return RecordsSource(folder, report["origin"], report["identity"].get("max_pixels"))
