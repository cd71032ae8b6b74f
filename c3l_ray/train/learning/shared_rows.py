"""A micro-batch with one row an image: what its texts begin with alike stands there once.

The texts of an image (a positive turn and its negatives) begin with the image and mostly with one
instruction. Each image's texts become a prefix tree in one row, as the scorer packs an image's
turns, so that the vision tower and the tokens of the image are computed once. A token attends to
the tokens on its path and to no other, and has the position that it has in its own text: the model
computes for each text what it would compute for it alone, gradients included.

Shapes: B images, R texts, T their tokens, L places of a row.
"""

from typing import Any

import torch
from torch import Tensor

from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.inference.packing import Pack, PackingError, pack_trees
from c3l_ray.train.learning.text_rows import TOKEN_INPUTS, TextRows
from c3l_ray.train.reading.batches import MicroBatch, model_inputs


def has_siblings(micro_batch: MicroBatch) -> bool:
    """Whether an image has more than one text."""
    return len(micro_batch["owner_R"]) > len(micro_batch["positive_B"])


def share_prefixes(
    micro_batch: MicroBatch, vlm: Any, attention: PackAttention, image_token: int
) -> tuple[dict[str, Any], TextRows]:
    """The model's inputs for a row an image, and where its texts' tokens stand in it.

    Args:
        micro_batch: whose texts are padded on the right.
        vlm: the model of transformers.
        attention: of its layers.
        image_token: the id of the tokens that stand for the image.

    Raises:
        PackingError: which of the processor's inputs belong to which image is not known.
    """
    ids_RT, owner_R = micro_batch["input_ids"], micro_batch["owner_R"]
    device = ids_RT.device
    texts_of_images, packs = _pack_images(micro_batch)
    longest = max(map(len, packs))
    place_RT = torch.zeros(ids_RT.shape, dtype=torch.long)
    ids_BL, depths_BL = (torch.zeros(len(packs), longest, dtype=torch.long) for _ in range(2))
    ends_BL = (torch.arange(longest) + 1).repeat(len(packs), 1)  # padding sees itself
    for image, (pack, texts) in enumerate(zip(packs, texts_of_images, strict=True)):
        ids_BL[image, : len(pack)] = torch.from_numpy(pack.ids)
        depths_BL[image, : len(pack)] = torch.from_numpy(pack.depths)
        ends_BL[image, : len(pack)] = torch.from_numpy(pack.ends)
        for text, path in zip(texts, pack.paths, strict=True):
            place_RT[text, : len(path)] = torch.from_numpy(path)
    rows = TextRows(row_R=owner_R, place_RT=place_RT.to(device))
    ids_BL, depths_BL, ends_BL = (values.to(device) for values in (ids_BL, depths_BL, ends_BL))
    inputs = {
        "input_ids": ids_BL,
        "attention_mask": attention.make_masks(ends_BL, depths_BL, ids_BL),
        "position_ids": _find_positions(micro_batch, vlm, rows, depths_BL),
        **select_images(micro_batch, micro_batch["positive_B"], image_token),
    }
    return inputs, rows


def count_tokens(micro_batch: MicroBatch, *, is_shared: bool) -> int:
    """The tokens that the model reads of a micro-batch, padding left out.

    Args:
        micro_batch: on the host.
        is_shared: whether those that an image's texts share are read once.
    """
    if is_shared and has_siblings(micro_batch):
        return sum(map(len, _pack_images(micro_batch)[1]))
    return int(micro_batch["attention_mask"].sum())


def _pack_images(micro_batch: MicroBatch) -> tuple[list[list[int]], list[Pack]]:
    """The texts of each image by their numbers, and its prefix tree."""
    lengths = micro_batch["attention_mask"].sum(dim=1).tolist()
    ids_RT = micro_batch["input_ids"].cpu().numpy()
    arrays = [ids[:length] for ids, length in zip(ids_RT, lengths, strict=True)]
    texts_of_images: list[list[int]] = [[] for _ in micro_batch["positive_B"]]
    for text, image in enumerate(micro_batch["owner_R"].tolist()):
        texts_of_images[image].append(text)
    packs = [pack_trees([[arrays[text] for text in texts]]) for texts in texts_of_images]
    return texts_of_images, packs


def select_texts(micro_batch: MicroBatch, image: int, image_token: int) -> MicroBatch:
    """A micro-batch of one of the images alone.

    Args:
        micro_batch: of several images.
        image: the number of one.
        image_token: the id of the tokens that stand for the image.

    Raises:
        PackingError: as `select_images`.
    """
    text_N = (micro_batch["owner_R"] == image).nonzero()[:, 0]
    by_text = {
        name: values[text_N]
        for name, values in micro_batch.items()
        if name in TOKEN_INPUTS or name.endswith(("_RT", "_R"))
    }
    return {
        **by_text,
        **select_images(micro_batch, text_N, image_token),
        "owner_R": torch.zeros_like(text_N),
        "positive_B": text_N.new_zeros(1),
        "weight_B": micro_batch["weight_B"][image : image + 1],
        "skipped_S": torch.zeros_like(micro_batch["skipped_S"]),
    }


def select_images(micro_batch: MicroBatch, text_B: Tensor, image_token: int) -> dict[str, Tensor]:
    """Of what the processor made of each text's image, the part of some texts.

    Args:
        micro_batch: with the image of each text, in the texts' order.
        text_B: the texts.
        image_token: the id of the tokens that stand for the image.

    Raises:
        PackingError: which part belongs to which text is not known.
    """
    num_texts = len(micro_batch["input_ids"])
    num_tokens_R = (micro_batch["input_ids"] == image_token).sum(dim=1)
    selected = {}
    for name, values in model_inputs(micro_batch).items():
        if name in TOKEN_INPUTS:
            continue
        if len(values) == num_texts:
            selected[name] = values[text_B]
            continue
        # Patches, or crops, one after the other: as many as an image has tokens, or so many times.
        sizes_R = num_tokens_R * len(values) // num_tokens_R.sum().clamp(min=1)
        if int(sizes_R.sum()) != len(values) or (
            (sizes_R * num_tokens_R.sum() != num_tokens_R * len(values)).any()
        ):
            raise PackingError(f"it is not known which part of {name} belongs to which image")
        parts = values.split(sizes_R.tolist())
        selected[name] = torch.cat([parts[text] for text in text_B.tolist()])
    return selected


def _find_positions(micro_batch: MicroBatch, vlm: Any, rows: TextRows, depths_BL: Tensor) -> Tensor:
    """Each place's position: that of its token in its text, [B, L], or [3, B, L]."""
    get_rope_index = getattr(vlm.base_model, "get_rope_index", None)
    if get_rope_index is None:
        return depths_BL
    tables = {name: v for name, v in model_inputs(micro_batch).items() if v.dim() == 2}
    positions_3RT: Tensor = get_rope_index(**tables)[0]
    positions_3BL = depths_BL.expand(len(positions_3RT), -1, -1).clone()
    text_N, token_N = micro_batch["attention_mask"].nonzero(as_tuple=True)
    places = (rows.row_R[text_N], rows.place_RT[text_N, token_N])
    # Texts that share a token agree about its position: it depends on what comes before alone.
    positions_3BL[:, places[0], places[1]] = positions_3RT[:, text_N, token_N]
    return positions_3BL
