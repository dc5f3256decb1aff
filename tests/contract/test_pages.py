"""Generated pages say what the code says."""

from pathlib import Path

import pytest

from tercet.generate.pages import PAGES, write_pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name):
    """Generating it again changes nothing."""
    fresh = (DOCS / name).read_text("utf-8") == PAGES[name]()
    assert fresh, f"docs/{name} is out of date. Run: python -m tercet.generate.pages docs"


def test_pages_are_written(tmp_path):
    """All of them, into the folder that is named."""
    write_pages(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)
