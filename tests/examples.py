"""What many tests begin with: the worked example of a record, and the types of fixtures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from c3l_ray.config import GenerateConfig

RECORD: dict[str, Any] = json.loads((Path(__file__).parent / "record.json").read_text())

EncodeImage = Callable[..., bytes]
"""Of the fixture `encoded`: an image as bytes, by size, mode and format."""

MakeConfig = Callable[..., GenerateConfig]
"""Of the fixture `config`: a config over the shipped models, with some fields replaced."""
