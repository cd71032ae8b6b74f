"""What lines of measurements say of the images that are not learnt from."""

import torch

from c3l_ray.train.learning.metrics import MetricAccumulator
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.reading.encode import encode_batch
from tests.train.learning.builders import CPU
from tests.train.records import MakeTrainConfig, make_record


def test_skipped_images_are_counted_over_the_whole_run(train_config: MakeTrainConfig) -> None:
    records = [make_record(number) for number in range(3)]
    records[0]["image"] = b"damaged"
    records[1]["turns"][1]["answer"] = "</s>"
    config = train_config()
    (micro_batch,) = encode_batch(records, config, {}, num_workers=1, accumulation_steps=1)
    trainer = Trainer(config, 4, CPU)
    metrics = MetricAccumulator(trainer, {"altered_text": 5, "too_long": 7})  # of a checkpoint
    sums = dict.fromkeys([*metrics.names, "grad_norm"], torch.tensor(1.0))
    lines = []
    for step in range(2):
        skipped_S = micro_batch["skipped_S"]
        metrics.add(sums, tokens=1, skipped_S=skipped_S, wait_s=0.0, step_s=1.0)
        lines.append(metrics.take_line(step + 1, 0.1)[0])
    names = ("unusable_image", "altered_text", "too_long")
    assert [[line[f"skipped_{name}"] for name in names] for line in lines] == [[1, 6, 7], [2, 7, 7]]
    assert metrics.count_skipped() == {"unusable_image": 2, "altered_text": 7, "too_long": 7}
