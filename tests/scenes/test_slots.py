from c3l_ray.scenes.draw import CELLS
from c3l_ray.scenes.slots import list_things, relation_holds
from tests.scenes.builders import SCENE


def test_relations_are_opposites() -> None:
    for first in CELLS:
        for second in CELLS:
            above, left = (relation_holds(name, first, second) for name in ("above", "left of"))
            assert above == relation_holds("below", second, first)
            assert left == relation_holds("right of", second, first)


def test_a_list_names_things_in_reading_order() -> None:
    assert list_things(SCENE) == (
        "a small red circle, a large blue star, a small red square and a large cyan square"
    )
