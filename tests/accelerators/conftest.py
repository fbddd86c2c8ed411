"""Targets to compile for; without their compiler the tests are skipped."""

import pytest

from jaxhash.bench.compile.targets import parse_target, target_devices
from jaxhash.utils.errors import UserError


def target_if_installed(name):
    target = parse_target(name)
    try:
        target_devices(target)
    except UserError as error:
        pytest.skip(str(error))
    return target


@pytest.fixture(scope="session")
def v5e():
    return target_if_installed("v5e:2x4")


@pytest.fixture(scope="session")
def h200():
    return target_if_installed("h200:8")
