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


TWO_LINES = """\x1b[36mray::MapWorker(MapBatches(ScorerProcess)).submit()\x1b[39m (pid=1, ip=::1)
  File "pipeline.py", line 200, in __call__
    scored: pa.Table = self.scorer(table)
                       ^^^^^^^^^^^^^^^^^^
ValueError: bad value
  with a second line: To change it

The above exception was the direct cause of the following exception:

\x1b[36mray::MapWorker(MapBatches(ScorerProcess)).submit()\x1b[39m (pid=1, ip=::1)
ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, backoff, or which errors are retried, configure this.
"""
IN_CREATION = """The actor died because of an error raised in its creation task, ray::f() (pid=1)
           ^^^^^^^^
  File "actor_pool_map_operator.py", line 765, in _init_udf_with_retries
    raise last_exception
  File "pipeline.py", line 197, in __init__
    self.scorer = scorer(config)
RuntimeError: cannot start
"""
OUT_OF_MEMORY = """Task was killed due to the node running low on memory.
To adjust the kill threshold, set this.
To disable worker killing, set that.
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a trace\n  of Ray\n\nValueError: bad \n\n", "ValueError: bad"),
        (IN_RAY_DATA, "ValueError: bad value here"),
        (CHAINED, "C3LError: a.parquet is damaged"),
        (TWO_LINES, "ValueError: bad value with a second line: To change it"),
        (IN_CREATION, "RuntimeError: cannot start"),
        (OUT_OF_MEMORY, "Task was killed due to the node running low on memory."),
        ('  File "a.py", line 3, in f\n    f()\n', "f()"),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_is_the_last_line_that_says_something(text: str, line: str) -> None:
    assert last_line(RuntimeError(text)) == line
