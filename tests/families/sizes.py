"""The sizes of the families' tiny models, and what a text config repeats of its tokenizer."""

from typing import Any

HEAD_DIM = 32  # the least that vLLM's attention on the CPU takes
TEXT = {
    "hidden_size": 2 * HEAD_DIM,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def special_ids(tokenizer: Any) -> dict[str, int | None]:
    """What a text config repeats of its tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
