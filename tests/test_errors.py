import pytest

from c3l_ray.errors import last_line

IN_RAY_DATA = """ray::MapBatches(f)() (pid=1)
  File "f.py", line 8, in f
ValueError: bad value here

The above exception was the direct cause of the following exception:

ray::MapBatches(f)() (pid=1)
ray.exceptions.UserCodeException: UDF failed to process a data block.
To change retry attempts, backoff, or which errors are retried, configure this.
"""
CHAINED = """KeyError: 'digest'

The above exception was the direct cause of the following exception:

C3LError: a.parquet is damaged
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a trace\n  of Ray\n\nValueError: bad \n\n", "ValueError: bad"),
        (IN_RAY_DATA, "ValueError: bad value here"),
        (CHAINED, "C3LError: a.parquet is damaged"),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_is_the_last_line_that_says_something(text: str, line: str) -> None:
    assert last_line(RuntimeError(text)) == line
