"""`jobs.generate` with notes of its generator, for `tests.bench.pipeline`; it takes the same flags.

Only the generator's class differs, so that everything else is the job's own.
"""

import functools

from c3l_ray.distributed import pipeline
from jobs import generate
from tests.bench.observed_generator import ObservedGenerator

if __name__ == "__main__":
    observed = functools.partial(pipeline.process_units, generator=ObservedGenerator)
    setattr(pipeline, "process_units", observed)  # noqa: B010  # a partial is no function for mypy
    generate.run_command("tests.bench.pipeline_scored")
