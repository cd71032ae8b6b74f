from c3l_ray.runs.cures import CURES_OF_IMAGES, CURES_OF_TURNS
from tests.pages import read_pages


def test_there_is_a_cure_where_the_page_on_statuses_has_one() -> None:
    rows = read_pages()["jobs/README.md"].table("Statuses")
    documented = {
        of: {word.strip("`") for word, of_what, _, cure in rows if of_what == of and cure}
        for of in ("error", "turn")
    }
    assert {*CURES_OF_IMAGES} == documented["error"]
    assert {*CURES_OF_TURNS} == documented["turn"]
