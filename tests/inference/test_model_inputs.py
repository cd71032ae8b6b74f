"""The inputs of several rows as those of all."""

import torch

from c3l_ray.inference.model_inputs import collate_rows


def test_rows_are_padded_with_zeros_on_the_right() -> None:
    rows = [
        {"input_ids": torch.tensor([[1, 2, 3]]), "pixel_values": torch.ones(1, 2, 2)},
        {"input_ids": torch.tensor([[4]]), "pixel_values": torch.ones(2, 1, 2)},
    ]
    inputs = collate_rows(rows)
    assert inputs["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert inputs["pixel_values"].shape == (3, 2, 2)
    assert inputs["pixel_values"][1:, 1].tolist() == [[0, 0], [0, 0]]
