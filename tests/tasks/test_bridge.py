import pytest
from prefect.settings import PREFECT_TASKS_DEFAULT_RETRIES, temporary_settings
from prefect.states import Failed

from pipelines.artifacts.errors import OutOfMemory, StageFailed, TemporaryFault, UserError
from tasks.bridge import RETRIES, as_task, may_mend_itself, retries
from tests.artifacts.toys import COUNT


def test_prefects_setting_says_how_often_a_task_is_tried_again() -> None:
    assert retries() == RETRIES == as_task(COUNT).retries
    for count in (0, 5):
        with temporary_settings({PREFECT_TASKS_DEFAULT_RETRIES: count}):
            assert retries() == count


@pytest.mark.parametrize("kind", [UserError, StageFailed, OutOfMemory, TemporaryFault])
def test_only_what_may_be_over_is_tried_again(kind: type[Exception]) -> None:
    task = as_task(COUNT)
    assert may_mend_itself(task, None, Failed(name=kind.__name__)) is (kind is TemporaryFault)  # type: ignore[arg-type]
