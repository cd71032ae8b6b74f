"""PaliGemma: it comes without a chat template, and its prompt's tokens all see each other."""

from typing import Any

import transformers as hf

from tests.families.sizes import HEAD_DIM, TEXT, VISION, special_ids
from tests.families.tokens import NEWLINES, train_piece_tokenizer

# One that a user could write: the image, the question and a line break, as in the paper's prompts.
TEMPLATE = (
    "{% for m in messages %}{% for c in m.content %}"
    "{{ '<image><bos>' if c.type == 'image' else c.text }}{% endfor %}"
    "{{ '\\n' if m.role == 'user' else '<eos>' }}{% endfor %}"
)


def build_paligemma(chat_template: str | None = None) -> tuple[Any, Any]:
    """An image is 16 tokens."""
    roles = {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "image_token": "<image>",
    }
    tokenizer = train_piece_tokenizer(
        [*roles.values()], bos="<bos>", roles=roles, leading_space=False, unsplit=NEWLINES
    )
    image_processor = hf.SiglipImageProcessor(size={"height": 32, "width": 32})
    image_processor.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(image_processor, tokenizer, chat_template=chat_template)
    vocabulary = {**special_ids(processor.tokenizer), "vocab_size": len(processor.tokenizer)}
    config = hf.PaliGemmaConfig(
        vision_config={
            **VISION,
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
            "projection_dim": TEXT["hidden_size"],
        },
        text_config={**TEXT, **vocabulary, "model_type": "gemma", "head_dim": HEAD_DIM},
        projection_dim=TEXT["hidden_size"],
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
        vocab_size=vocabulary["vocab_size"],
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor
