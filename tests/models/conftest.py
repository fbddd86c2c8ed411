"""Files of tensors that are read or refused."""

import pytest
from pytorch_files import read_tensors


@pytest.fixture
def read(tmp_path):
    """Reads the tensors of a file of these bytes, by their paths in it."""

    def run(content):
        path = tmp_path / "weights.bin"
        path.write_bytes(content)
        return read_tensors(path)

    return run


@pytest.fixture
def refused(read, tmp_path):
    """Why a file of these bytes is refused: one line that names it."""
    from jaxhash.utils.errors import UserError

    def run(content):
        with pytest.raises(UserError) as error:
            read(content)
        said, start = str(error.value), f"{tmp_path / 'weights.bin'}: "
        assert said.startswith(start) and said.isprintable() and len(said) < len(start) + 400
        return said.removeprefix(start)

    return run
