"""What a run will cost, from a count of its input and a sample of its images.

`estimates` has the arithmetic of what is measured on a sample, `input_count` counts the input,
`sample` draws images from it, `cost` makes a plan of both. Nothing here knows models or Ray.
"""
