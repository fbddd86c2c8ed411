"""Fixtures that read or refuse files of tensors."""

import pytest
from pytorch_files import read_tensors


@pytest.fixture
def read(tmp_path):
    """Returns a function from bytes of a file to its tensors by path."""

    def run(content):
        path = tmp_path / "weights.bin"
        path.write_bytes(content)
        return read_tensors(path)

    return run


@pytest.fixture
def refused(read, tmp_path):
    """Returns a function from bytes of a file to the one-line error that names it."""
    from jaxhash.utils.errors import UserError

    def run(content):
        with pytest.raises(UserError) as error:
            read(content)
        said, start = str(error.value), f"{tmp_path / 'weights.bin'}: "
        assert said.startswith(start) and said.isprintable() and len(said) < len(start) + 400
        return said.removeprefix(start)

    return run
