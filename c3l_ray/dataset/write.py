"""The files of a dataset, written as chosen records come, and what is counted of them."""

from collections import Counter, defaultdict
from typing import Any

from c3l_ray.dataset.chosen_records import ChosenRecords
from c3l_ray.dataset.columns import CONVERSATION_OF_IMAGE, CONVERSATION_OF_TURN, PREFERENCE
from c3l_ray.dataset.image_export import export_images
from c3l_ray.dataset.llava_export import LlavaWriter
from c3l_ray.dataset.parquet_export import PartWriter
from c3l_ray.dataset.preference import PreferencePair, find_pair
from c3l_ray.dataset.samples import (
    Sample,
    make_conversation_row,
    make_preference_row,
    make_samples,
    name_image,
)
from c3l_ray.dataset.score_summary import ScoreSummary
from c3l_ray.methods import c3l
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Record
from c3l_ray.select_config import SelectConfig


class DatasetWriter:
    """Writes samples as Parquet, and as llava.json where it is asked for.

    Args:
        target: the dataset's folder.
        config: of the selection.
        num_images: that have chosen turns.

    Attributes:
        failures: for each image that cannot be decoded here, where it lies, and why.
        num_images: written so far.
        instructions: by kind, the instructions under which the written turns were generated, each
            with how many there are.
    """

    def __init__(self, target: RunFolder, config: SelectConfig, *, num_images: int) -> None:
        self.failures: list[str] = []
        self.num_images = 0
        self.instructions: dict[str, Counter[str]] = defaultdict(Counter)
        self._config = config
        schema = CONVERSATION_OF_IMAGE if config.group == "image" else CONVERSATION_OF_TURN
        self._parts = PartWriter(target, PREFERENCE if config.export == "preference" else schema)
        self._llava: LlavaWriter | None = None
        if config.llava != "none":
            with_images = config.llava == "images"
            self._llava = LlavaWriter(target, num_images=num_images, with_images=with_images)
        self._num_rewritten = 0
        self._num_samples = 0
        self._num_without_image = 0
        self._kinds: Counter[str] = Counter()
        self._pairs: Counter[str] = Counter()
        self._unpaired: Counter[str] = Counter()
        self._scores = ScoreSummary()

    def add(self, chosen: ChosenRecords) -> None:
        """Writes the samples of records whose image can be decoded here."""
        exported = export_images(chosen.table)
        self.failures += exported.failures
        texts: list[Record] = chosen.table.drop_columns("image").to_pylist()
        records: list[Record] = []
        samples: list[list[Sample]] = []
        for row, image, is_rewritten in zip(
            exported.rows, exported.images, exported.is_rewritten, strict=True
        ):
            record: Record = {**texts[row], "image": image}
            places, num_turns = chosen.places[row], chosen.num_turns[row]
            samples_of_record = list(make_samples(record, places, num_turns, self._config.group))
            rows = [
                made for sample in samples_of_record if (made := self._make_row(record, sample))
            ]
            if rows:
                self.num_images += 1
                self._num_rewritten += is_rewritten
                self._num_samples += len(rows)
                self._num_without_image += len(rows) if image is None else 0
                self._parts.add(rows)
                records.append(record)
                samples.append(samples_of_record)
        if self._llava is not None:
            self._llava.add(records, samples)

    def close(self) -> None:
        """Writes what is left."""
        self._parts.close()
        if self._llava is not None:
            self._llava.close()

    def counts(self) -> dict[str, Any]:
        """What a SelectionReport says of the files, by its names."""
        return {
            "turns": self._kinds.total(),
            "kinds": dict(self._kinds.most_common()),
            "images": self.num_images,
            "samples": self._num_samples,
            "pairs": dict(self._pairs),
            "unpaired_turns": dict(self._unpaired),
            "score_percentiles": self._scores.percentiles(),
            "files": self._parts.num_files,
            "rows_without_image": self._num_without_image,
            "rewritten_images": self._num_rewritten,
            "unusable_images": len(self.failures),
        }

    def _make_row(self, record: Record, sample: Sample) -> dict[str, Any] | None:
        """The row of a sample, counted; None of a turn that makes no pair, which is counted too."""
        image_path = name_image(record) if record["image"] is None else None
        if self._config.export == "preference":
            pair = find_pair(sample.turns[0], self._config.by)
            if not isinstance(pair, PreferencePair):
                self._unpaired[pair] += 1
                return None
            self._pairs[pair.source] += 1
            row = make_preference_row(record, sample, pair, image_path=image_path)
        else:
            is_list = self._config.group == "image"
            row = make_conversation_row(record, sample, is_list=is_list, image_path=image_path)
        for turn in sample.turns:
            self._kinds[turn["kind"]] += 1
            self._scores.add(turn.get("scores"))
            if not c3l.system_message(turn["kind"], turn["instruction"]):
                self.instructions[turn["kind"]][turn["instruction"]] += 1
        return row
