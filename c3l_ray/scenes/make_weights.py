"""Trains the shipped tiny LLaVA and CLIP from scratch.

    python -m c3l_ray.scenes.make_weights

Each model trains in a process of its own, with one thread. The weights follow
from the seed.

Interrupted trainings resume: run the same command again.

Exit status: 0 finished, 2 refused before the start, 130 interrupted, 1 any
other failure.
"""

import logging
import multiprocessing
import os
import random
import sys

import tyro

from c3l_ray.errors import C3LError
from c3l_ray.scenes.training.weights_config import ModelName, WeightsConfig


def make_weights(config: WeightsConfig) -> None:
    """Trains each model of the config in a process of its own, or in this one if it is alone.

    Raises:
        C3LError: a training failed; the same config resumes it.
    """
    if len(config.models) == 1:
        train_model(config, config.models[0])
        return
    processes = [
        multiprocessing.get_context("spawn").Process(target=_run_process, args=(config, model))
        for model in config.models
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise C3LError(
            "training is not finished; run the same command again to resume from "
            f"{config.checkpoints}"
        )


def train_model(config: WeightsConfig, model: ModelName) -> None:
    """Trains one model on one thread, its weights and draws from the config's seed."""
    import torch

    from c3l_ray.scenes.training.train_clip import train_clip
    from c3l_ray.scenes.training.train_llava import train_llava

    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    {"llava": train_llava, "clip": train_clip}[model](config, rng)


def _run_process(config: WeightsConfig, model: ModelName) -> None:
    _show_progress()
    train_model(config, model)


def _show_progress() -> None:
    """Shows on stdout what the trainings log."""
    messages = logging.StreamHandler(sys.stdout)
    messages.setFormatter(logging.Formatter("%(message)s"))
    library = logging.getLogger("c3l_ray")
    library.handlers = [messages]
    library.setLevel(logging.INFO)
    library.propagate = False


def main() -> None:
    """Parses the flags, trains, and ends the process with its exit status."""
    # One thread a process, also in what torch starts on its import; two processes train at once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _show_progress()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)  # tyro would join its lines and not wrap them again
    try:
        prog = "python -m c3l_ray.scenes.make_weights"
        make_weights(tyro.cli(WeightsConfig, prog=prog, description=""))
    except C3LError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:  # a full disk, a folder gone
        print(f"error: {error}; run the same command again to resume", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
