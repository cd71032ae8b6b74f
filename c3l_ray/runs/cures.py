"""What to do about images and turns that failed, by the countable word of their error or status."""

from collections.abc import Mapping

LESS_MEMORY = (
    "lower --max-pixels or --scorer.max-tokens, or more of a GPU with --pools.scorer-gpus; then "
    "another output"
)
FEWER_TOKENS = "lower --max-pixels, raise --model.max-len"

CURES_OF_IMAGES: Mapping[str, str] = {
    "empty": "restore the file",
    "undecodable": "restore the file, or convert it to 8 bits",
    "unsupported": (
        "install what the message names, or convert the images; write the Parquet anew"
    ),
    "too_large": "shrink it, or save it anew",
    "too_narrow": "crop it",
    "no_image": "add it; name the column or --layout.image-root",
    "several_images": "split it",
    "unreadable": "restore it",
    "damaged_sample": "mend the line",
    "damaged_shard": "fetch the shard again",
    "refused": FEWER_TOKENS,
    "no_turn": "by the statuses of its turns",
    "unscored": LESS_MEMORY,
    "fatal": "more memory; remove the image; see errors/",
    "exception": "see its trace in errors/",
}
"""By the first word of an image's error."""

CURES_OF_TURNS: Mapping[str, str] = {
    "unparsable": "--reply-format json, another model",
    "truncated": "raise --sampling.max-tokens",
    "thought": "--model.template-args enable_thinking=false; raise --sampling.max-tokens",
    "duplicate": "raise --sampling.temperature",
    "refused": FEWER_TOKENS,
    "special_tokens": "remove it from the text",
    "altered_by_template": "another scoring model",
    "too_long": "another scoring model",
    "unscored": LESS_MEMORY,
    "broken_history": "--layout.history no",
}
"""By the status of a turn; those that nothing but other data cures are left out."""
