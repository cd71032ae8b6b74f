"""Trains the shipped tiny LLaVA and CLIP from scratch: `python -m c3l_ray.scenes.train --help`."""

import multiprocessing
import random

import torch
import tyro

from c3l_ray.scenes.training.train_clip import train_clip
from c3l_ray.scenes.training.train_llava import train_llava
from c3l_ray.scenes.training.loop import Training


def main(training: Training) -> None:
    """Trains each part in a process of its own. Raises SystemExit where one of them fails."""
    if len(training.parts) == 1:
        train_part(training, training.parts[0])
        return
    processes = [
        multiprocessing.get_context("spawn").Process(target=train_part, args=(training, part))
        for part in training.parts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"not finished; the same command goes on from {training.unfinished}")


def train_part(training: Training, part: str) -> None:
    """Trains one part on one thread, its weights and draws from the training's seed."""
    torch.set_num_threads(1)
    torch.manual_seed(training.seed)
    rng = random.Random(training.seed)
    {"llava": train_llava, "clip": train_clip}[part](training, rng)


if __name__ == "__main__":
    main(tyro.cli(Training, description=__doc__))
