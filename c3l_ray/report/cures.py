"""What helps against a failure: the words of the jobs' page on statuses, beside what failed."""

CURES = {
    "empty": "Restore the file.",
    "undecodable": "Restore the file, or convert it to 8 bits.",
    "unsupported": "Install what the message names, or convert the images; write Parquet anew.",
    "too_large": "Shrink the image.",
    "too_narrow": "Crop the image.",
    "no_image": "Add the image, or name its column or --layout.image-root.",
    "several_images": "Split the sample.",
    "unreadable": "Restore the file.",
    "damaged_sample": "Mend the line.",
    "damaged_shard": "Fetch the shard again.",
    "refused": "Lower --max-pixels, or raise --model.max-len.",
    "no_turn": "See the statuses of the turns.",
    "unscored": "Lower --max-pixels or --scorer.max-tokens, or give the scorer more of a GPU.",
}
"""By the first word of an image's error."""

TURN_CURES = {
    "unparsable": "Try --reply-format json, or another model.",
    "truncated": "Raise --sampling.max-tokens.",
    "thought": "Set --model.template-args enable_thinking=false, or raise --sampling.max-tokens.",
    "duplicate": "Raise --sampling.temperature.",
    "refused": "Lower --max-pixels, or raise --model.max-len.",
    "special_tokens": "Remove the special token from the text.",
    "altered_by_template": "Take another scoring model.",
    "too_long": "Take another scoring model.",
    "unscored": "Lower --max-pixels or --scorer.max-tokens, or give the scorer more of a GPU.",
    "broken_history": "Set --layout.history no.",
}
"""By a turn's status."""
