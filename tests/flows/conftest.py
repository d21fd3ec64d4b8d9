"""One server of Prefect for the flows that run in the tests' own process."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="package")
def harness() -> Iterator[None]:
    """Prefect's own harness: a server of this process, with an empty database."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
