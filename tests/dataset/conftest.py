import shutil
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import STAGED_ROWS, conform
from tests.dataset.runs import WriteRun
from tests.examples import EncodeImage
from tests.runs.tables import make_report


@pytest.fixture
def write_run(tmp_path: Path, encoded: EncodeImage) -> WriteRun:
    """Writes a run whose units hold these images' turns: lists of units of lists of turns."""

    def write(
        *units: list[list[dict[str, Any]]],
        keep_images: bool = True,
        meta: str | None = None,
        images: list[bytes] | None = None,
        image_ids: list[str] | None = None,
    ) -> Path:
        """`images` and their ids are those of each unit; else an image of a format by its row."""
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        folder = RunFolder.open(str(tmp_path / "run"))
        folder.write_json("run.json", make_report())
        for number, turns_of_images in enumerate(units):
            unit, num_rows = f"u-{number:05d}", len(turns_of_images)
            formats = [("JPEG", "PNG", "WEBP")[row % 3] for row in range(num_rows)]
            encoded_images = images or [encoded(format_=name) for name in formats]
            staged = conform(
                {
                    "image_id": image_ids or [f"{unit}-{row}" for row in range(num_rows)],
                    "key": [str(row) for row in range(num_rows)],
                    "source": ["a.tar"] * num_rows,
                    "image": [image if keep_images else None for image in encoded_images],
                    "meta": [meta] * num_rows,
                    "turns": turns_of_images,
                    "unit": [unit] * num_rows,
                    "unit_rows": [num_rows] * num_rows,
                },
                STAGED_ROWS,
            )
            commit_unit(folder, unit, "a.tar", staged, "o")
        return tmp_path / "run"

    return write
