"""Fixtures for sources."""

import pytest

from jaxhash.data.load import load_source
from jaxhash.utils.errors import UserError


@pytest.fixture
def error_line():
    """Returns a function that gives the one line of the error that opening a source ends in."""

    def open_source(name, data_dir=None):
        with pytest.raises(UserError) as caught:
            load_source(name, data_dir)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return open_source
