"""Which other picture an image is compared with."""

from c3l_ray.images import decode_image
from c3l_ray.inference.other_pictures import pair_with_other_pictures
from tests.examples import EncodeImage


def test_an_image_is_paired_with_the_next_other_picture(encoded: EncodeImage) -> None:
    data = {0: (40, 30), 2: (40, 30), 3: (20, 30), 5: (20, 30), 6: (40, 30)}
    images = {row: decode_image(encoded(size), 10**6) for row, size in data.items()}
    pairs = pair_with_other_pictures(images)
    assert {row: image.size for row, image in pairs.items() if image} == {
        0: (20, 30),
        2: (20, 30),
        3: (40, 30),
        5: (40, 30),
        6: (20, 30),
    }
    reencoded = decode_image(encoded((40, 30), format_="BMP"), 10**6)
    assert encoded((40, 30), format_="BMP") != encoded((40, 30))
    assert pair_with_other_pictures({0: images[0], 1: images[2], 2: reencoded}) == {}
