"""What the tests of the evaluation share."""

import pytest

from tests.evaluation.workbench import Workbench, build_workbench


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A tiny model and what goes with it."""
    return build_workbench(tmp_path_factory.mktemp("evaluation"))
