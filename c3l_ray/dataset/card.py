"""The dataset card: README.md, whose front matter tells the datasets library what to load."""

from collections.abc import Mapping
from typing import Any

CARD = "README.md"

# Without `configs` the library takes a folder with images in it for a folder of images only.
_FRONT_MATTER = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: part-*.parquet
---
"""

_TEXT = """
# {turns} question-answer turns about {images} images

jobs.select of c3l-ray {version} kept these turns of {scored_turns} scored ones. The flags were
`--by {by} --within {within} --per {per}{top}{at_least}`; selection.json has all of them.

| file | content |
| --- | --- |
| part-*.parquet | a row for each image, with the chosen turns and their scores |
| llava.json | the same turns as samples in LLaVA's conversation format |
| images/ | the images that llava.json names |

```python
from datasets import Image, load_dataset

dataset = load_dataset("path/of/this/folder", split="train").cast_column("image", Image())
```
"""


def make_card(selection: Mapping[str, Any]) -> str:
    """The dataset card of a finished selection, given what its selection.json holds."""
    top, at_least = selection["top"], selection["at_least"]
    return _FRONT_MATTER + _TEXT.format(
        **{
            **selection,
            "top": "" if top is None else f" --top {top:g}",
            "at_least": "" if at_least is None else f" --at-least {at_least:g}",
        }
    )
