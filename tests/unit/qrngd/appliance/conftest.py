"""An appliance that answers over TLS, and the authority that vouches for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.appliance import Appliance, Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def appliance(authority: Authority) -> Iterator[Appliance]:
    with Appliance(authority.server()).running() as found:
        yield found
