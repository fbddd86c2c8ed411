"""A function that calls the host is compiled for a GPU only where there is one."""

import pytest

from jaxhash.bench.compile.program import compile_lowered
from jaxhash.bench.compile.targets import parse_target
from jaxhash.utils.errors import UserError


def test_a_call_of_the_host_is_named():
    def lower():
        raise RuntimeError("Unknown backend: 'gpu' requested, but no platforms are present")

    with pytest.raises(UserError, match="^the loss calls the host.*`for=h200`"):
        compile_lowered(lower, parse_target("h200"), name="the loss")

    def fail():
        raise RuntimeError("another error")

    with pytest.raises(RuntimeError, match="another error"):
        compile_lowered(fail, parse_target("h200"), name="the loss")
