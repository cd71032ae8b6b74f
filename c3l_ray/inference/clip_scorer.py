"""The `clip` score: the cosine between an image and a turn's text under an open_clip model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from c3l_ray.inference.hub import CLIP_HUB, download_clip
from c3l_ray.inference.large_imports import without_collection
from c3l_ray.model_config import ClipModel
from c3l_ray.stall_watch import give_sign

BATCH_SIZE = 64


class ClipScorer:
    """An open_clip model with its preprocessing and tokenizer; most cut texts at 77 tokens."""

    def __init__(self, config: ClipModel) -> None:
        with without_collection():
            import open_clip

        is_pinned = config.name.startswith(CLIP_HUB) and "@" in config.name
        folder = download_clip(config.name) if is_pinned else config.name
        name = f"local-dir:{folder}" if Path(folder).is_dir() else config.name
        weights = None if ":" in name else config.weights
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=weights, device=self.device
        )
        # bfloat16 where an error of 1e-3 in a cosine buys speed
        self.mixed_precision = self.device == "cuda"
        self.model: Any = model.eval()
        self.preprocess: Any = preprocess
        self.tokenize: Any = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def cosines(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        """The cosine in [-1, 1] of each image with the text at its place.

        An image object that stands at several places is encoded once.
        """
        unique_images = list({id(image): image for image in images}.values())
        row_of_image = {id(image): row for row, image in enumerate(unique_images)}
        image_ND = self._encode(
            unique_images,
            lambda batch: self.model.encode_image(
                torch.stack([self.preprocess(image) for image in batch]).to(self.device)
            ),
        )
        text_ND = self._encode(
            texts,
            lambda batch: self.model.encode_text(self.tokenize(list(batch)).to(self.device)),
        )
        rows = torch.tensor([row_of_image[id(image)] for image in images])
        cosines: list[float] = (image_ND[rows] * text_ND).sum(dim=-1).tolist()
        return cosines

    def _encode(self, items: Sequence[Any], encode: Callable[[Sequence[Any]], Tensor]) -> Tensor:
        """Unit vectors [N, D] of the items, encoded batch by batch."""
        vectors = []
        for first in range(0, len(items), BATCH_SIZE):
            give_sign()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.mixed_precision):
                encoded_BD = encode(items[first : first + BATCH_SIZE])
            vectors.append(F.normalize(encoded_BD.float(), dim=-1).cpu())
        return torch.cat(vectors)
