"""The world as files: shards of scenes to work on, and the shipped models that know them."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
LLAVA = WEIGHTS / "llava"
CLIP = WEIGHTS / "clip"
