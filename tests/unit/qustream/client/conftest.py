"""A village whose nodes do not run: users, a network file, and what the nodes would answer."""

from __future__ import annotations

import pytest
from support.village import User, Village


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Village:
    return Village(tmp_path_factory.mktemp("village"))


@pytest.fixture(scope="module")
def alice(net: Village) -> User:
    return net.user("alice")


@pytest.fixture(scope="module")
def bob(net: Village) -> User:
    return net.user("bob", requests=0)
