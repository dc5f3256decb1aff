"""Upstream's complaints about attributes come at a pace that a person can read."""

import logging

import pytest

from tercet.emit import complaints


@pytest.fixture
def said(caplog, monkeypatch):
    """What upstream's logger says, from a first minute on."""
    logger = logging.getLogger("opentelemetry.attributes")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(complaints, "_minutely", complaints._Minutely())
    complaints.install()
    return logger, caplog


def test_each_sentence_is_said_once_a_minute(said):
    """Whatever is filled into it: a limit that cuts texts cuts one with every request."""
    logger, caplog = said
    for length in (10, 20, 30):
        logger.warning("longer than %d", length)
        logger.warning("of another type")
    assert [record.getMessage() for record in caplog.records] == ["longer than 10", "of another type"]


def test_to_install_it_again_changes_nothing(said):
    """As a second setup does."""
    logger, _ = said
    complaints.install()
    assert len(logger.filters) == 1
