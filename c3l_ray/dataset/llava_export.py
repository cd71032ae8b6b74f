"""LLaVA's conversation format: llava.json, and the images that it names."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from c3l_ray.dataset.samples import Sample, name_image
from c3l_ray.images import read_format
from c3l_ray.inputs.units import digest_text, is_digest
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Record, Turn

LLAVA = "llava.json"
DATASET_INFO = "dataset_info.json"  # LLaMA-Factory looks for it beside the data
FOLDER_IMAGES = 1000
EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "TIFF": "tif",
    "JPEG2000": "jp2",
}  # others are named as their format


class LlavaWriter:
    """Gathers samples into `llava.json`, and writes `images/` as it goes, if asked to.

    An image's bytes are copied as they are, to a file of its id; images that share an id get files
    of their own. Where the images are not written, or the records have none, a sample names the
    image as the LLaVA sample did that it comes from, else by its shard and key.

    Args:
        target: the dataset's folder.
        num_images: that will be added; where they are many they lie in folders of 1,000.
        with_images: whether to write files of the images.
    """

    def __init__(self, target: RunFolder, *, num_images: int, with_images: bool) -> None:
        self.target = target
        self.samples: list[dict[str, Any]] = []
        self._with_images = with_images
        self._has_subfolders = num_images > FOLDER_IMAGES
        self._num_images = 0
        self._num_images_of: Counter[str] = Counter()  # by stem of their files

    def add(self, records: Sequence[Record], samples: Sequence[Sequence[Sample]]) -> None:
        """Adds the samples of records: their images are written, the samples kept."""
        names = [self._name_file(record) for record in records]
        if self._with_images:
            with ThreadPoolExecutor(16) as writers:
                list(writers.map(self._write_image, records, names))
        for name, samples_of_record in zip(names, samples, strict=True):
            self.samples += (
                make_sample(sample.id, name, sample.turns) for sample in samples_of_record
            )

    def close(self) -> None:
        """Writes llava.json, and the file by which LLaMA-Factory reads it."""
        self.target.write_json(LLAVA, self.samples)
        columns = {"messages": "conversations", "images": "image"}
        info = {"file_name": LLAVA, "formatting": "sharegpt", "columns": columns}
        self.target.write_json(DATASET_INFO, {"c3l_ray": info})

    def _name_file(self, record: Record) -> str:
        """The name of a record's image in the dataset's folder, or what the input called it."""
        if record["image"] is None or not self._with_images:
            return name_image(record)
        format_ = read_format(record["image"])
        extension = EXTENSIONS.get(format_, format_.lower())
        folder = (
            f"images/{self._num_images // FOLDER_IMAGES:05d}" if self._has_subfolders else "images"
        )
        self._num_images += 1
        return f"{folder}/{self._make_stem(record['image_id'])}.{extension}"

    def _make_stem(self, image_id: str) -> str:
        """A file name for an image, whatever its id holds, that no other image has."""
        stem = image_id if is_digest(image_id) else digest_text(image_id)
        self._num_images_of[stem] += 1
        repeat = self._num_images_of[stem] - 1
        return f"{stem}-{repeat}" if repeat else stem

    def _write_image(self, record: Record, name: str) -> None:
        if record["image"] is not None:
            self.target.write(name, record["image"])


def make_sample(sample_id: str, image_name: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """Turns as a LLaVA sample, with the image before the first."""
    conversations: list[dict[str, str | None]] = []
    for turn in turns:
        marker = "" if conversations else "<image>\n"
        conversations += [
            {"from": "human", "value": f"{marker}{turn['question']}"},
            {"from": "gpt", "value": turn["answer"]},
        ]
    return {"id": sample_id, "image": image_name, "conversations": conversations}
