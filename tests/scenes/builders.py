"""A scene that the tests of its language and truth share."""

from c3l_ray.scenes.draw import Scene, Thing

SCENE = Scene(
    seed=0,
    things=(
        Thing(colour="red", shape="circle", size="small", cell="top left"),
        Thing(colour="blue", shape="star", size="large", cell="top right"),
        Thing(colour="red", shape="square", size="small", cell="bottom left"),
        Thing(colour="cyan", shape="square", size="large", cell="bottom middle"),
    ),
)
