"""The reliability diagram on a trial's page."""

import json

from tests.api.test_damaged_files import Site, site
from tests.report.test_calibration_figure import document

__all__ = ["site"]


def test_the_page_shows_the_diagram_and_its_numbers(site: Site) -> None:
    """Whoever ranks by the overlap sees whether the probabilities mean something, too."""
    assert "<h2>Calibration" not in site.page()
    found = document()
    (site.files / "calibration.json").write_text(json.dumps(found))

    page = site.page()

    assert "<h2>Calibration" in page
    assert f"ECE {found['ece']:.3f}" in page
    assert "&lt;b&gt;disc" in page
    assert "<b>disc" not in page


def test_a_damaged_file_is_said(site: Site) -> None:
    """The rest of the page stays."""
    (site.files / "calibration.json").write_text('{"epoch": 1')

    page = site.page()

    assert "calibration.json: damaged" in page
    assert "<h2>Calibration" not in page
