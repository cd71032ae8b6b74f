"""What a training reads: the records of a run, or a dataset as it lies."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.no_score import check_scored
from c3l_ray.runs.commit import Manifest, read_file, read_manifests, read_records
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.schema import Record
from c3l_ray.train.reading.dataset_source import DatasetSource
from c3l_ray.train.reading.read_ahead import read_ahead
from c3l_ray.train.reading.scan import RecordFiles
from c3l_ray.train.training_config import TrainConfig

log = logging.getLogger(__name__)


class Source(Protocol):
    """Files of records, wherever they come from. It travels to the tasks that read."""

    @property
    def origin(self) -> str:
        """Of the run that made the records; empty for a dataset."""

    @property
    def max_pixels(self) -> int | None:
        """To how many pixels the run that made the records shrank larger images; else None."""

    @property
    def prompt_date(self) -> str | None:
        """The day that chat templates were given in the run that made the records; else None."""

    @property
    def layout(self) -> TurnsLayout | None:
        """Where images, captions and turns are found in a dataset; None for a run."""

    def digests(self) -> list[str]:
        """Names for the content of each file.

        Raises:
            PreflightError: a file cannot be read.
        """

    def texts(self) -> RecordFiles:
        """All records with their captions and turns, without images and scores.

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
        prompt_date: that its models' chat templates wrote, where they write one.
    """

    folder: RunFolder
    origin: str
    max_pixels: int | None = None
    prompt_date: str | None = None

    @property
    def layout(self) -> TurnsLayout | None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordsSource, (
            self.folder,
            self.origin,
            self.max_pixels,
            self.prompt_date,
        )  # tasks that read need no manifests

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Of the files that were committed when they were first looked up."""
        return [manifest for manifest in read_manifests(self.folder) if manifest.file]

    def digests(self) -> list[str]:
        return [file_address(manifest) for manifest in self.manifests]

    def texts(self) -> RecordFiles:
        turn_fields = ("kind", "instruction", "status", "question", "answer")
        columns = ("image_id", "source", "status", "caption", "meta")
        return self.read_columns(columns, turn_fields)

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
        for manifest, table in read_ahead(read_table, self.manifests):
            yield file_address(manifest), table.to_pylist()

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
    content = config.objective_spec.dataset_content
    if content is not None and config.input and not _is_run(config.input):
        layout = config.layout
        if not config.objective_spec.draws_single_turns:
            layout = dataclasses.replace(layout, history="auto")
        return DatasetSource(config.input, layout, content)
    if len(config.input) != 1:
        paths = " ".join(config.input)
        raise PreflightError(f"--input {paths}: must be the output folder of one run")
    folder = RunFolder.open(config.input[0], "--input")
    if folder.location.fs.isfile(folder.location.path):
        raise PreflightError(
            f"--input {folder.path}: is a file, and the objective {config.objective} learns from "
            "the scores of a run; make them with jobs.score"
        )
    report = folder.read_run()
    if not report["identity"]["keep_images"]:
        raise PreflightError(
            f"--input {folder.path}: its records hold no images (they were made with "
            "--no-keep-images), and training needs them"
        )
    if content is None:
        check_scored("--input", folder.path, report)
    weighs_tokens = config.objective == "c3l" and config.contrast.token_weights == "vig"
    if weighs_tokens and not report["identity"].get("token_gains"):
        raise PreflightError(
            f"--contrast.token-weights vig: the records in {folder.path} hold no token gains; make "
            "them with --token-gains of jobs.generate or jobs.score"
        )
    if report["finished"] is None:
        log.warning("the run in %s is not finished; training uses what it has now", folder.path)
    made_with = report["identity"]
    max_pixels, date = made_with.get("max_pixels"), made_with.get("prompt_date")
    return RecordsSource(folder, report["origin"], max_pixels, date)


def _is_run(inputs: Sequence[str]) -> bool:
    """Whether an input is the output folder of one job that reports in run.json."""
    if len(inputs) != 1:
        return False
    try:
        return RunFolder.open(inputs[0], "--input").read_json(REPORT) is not None
    except storage.ERRORS:
        return False
