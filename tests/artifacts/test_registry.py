"""The registry: whatever is promoted, refused, rolled back or killed, pointer and history tell one story."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from pipelines.artifacts import registry
from pipelines.artifacts.build import build
from pipelines.artifacts.collect import collect, sweep
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.records import Decision, Gate, Promoted, Record
from pipelines.artifacts.run import LocalRun, record_run
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.artifacts.store import Store


class PackageConfig(StageConfig):
    name: str = "mill"
    number: int = Field(0, description="Makes one bundle differ from another.")


def package(config: PackageConfig, *, out: Path) -> Metrics:
    (out / "bundle").mkdir()
    (out / "bundle" / "weights").write_text(f"weights {config.number}")
    return {}


PACKAGE = Stage("package", version=1, run=package)


def bundle(store: Store, number: int) -> Promoted:
    built = build(store, PACKAGE, PackageConfig(number=number), {}, node="package")
    return registry.candidate(store, built.artifact.key)


def decision(store: Store, number: int, *, passed: bool = True) -> Decision:
    gate = Gate(name="size", passed=passed, figure=1, bound=2, says="small enough" if passed else "too large")
    return Decision(challenger=bundle(store, number), champion=registry.current(store), gates=(gate,))


def promoted(store: Store, number: int) -> Record:
    return registry.promote(store, decision(store, number))


def test_a_promotion_moves_the_pointer_and_files_its_evidence(store: Store) -> None:
    assert registry.current(store) is None and registry.history(store) == []
    record = promoted(store, 1)
    assert registry.current(store) == record.model == bundle(store, 1)
    assert registry.history(store) == [record]
    assert record.decision is not None and record.decision.gates[0].says == "small enough"
    assert record.log["at"] and record.action == "promoted"
    filed = store.root / "registry" / "history" / "000001-promoted.json"
    assert filed.read_bytes() == registry.pointer_of(store).read_bytes()


def test_a_refusal_keeps_what_is_served_and_is_filed(store: Store) -> None:
    promoted(store, 1)
    record = registry.promote(store, decision(store, 2, passed=False))
    assert record.action == "refused" and record.model == bundle(store, 2)
    assert [gate.name for gate in record.decision.failed] == ["size"] if record.decision else False
    assert registry.current(store) == bundle(store, 1)
    assert [item.action for item in registry.history(store)] == ["promoted", "refused"]


def test_what_is_current_is_promoted_again_without_a_record(store: Store) -> None:
    record = promoted(store, 1)
    assert promoted(store, 1) == record
    assert registry.history(store) == [record]


def test_rollbacks_go_further_back_each_time_and_end_at_the_first(store: Store) -> None:
    for number in (1, 2, 3):
        promoted(store, number)
    assert registry.rollback(store).model == bundle(store, 2)
    assert registry.rollback(store).model == bundle(store, 1)
    with pytest.raises(UserError, match="is the first model promoted"):
        registry.rollback(store)
    assert promoted(store, 4).previous == 5
    assert registry.rollback(store).restores == 5
    assert registry.current(store) == bundle(store, 1)


def test_a_rollback_with_nothing_to_roll_back_to_is_one_line(store: Store) -> None:
    with pytest.raises(UserError, match="nothing was ever promoted"):
        registry.rollback(store)
    assert not (store.root / "registry" / "current").exists()


@pytest.mark.parametrize("loss", ["damaged", "gone"])
def test_a_rollback_to_a_bundle_that_is_damaged_or_gone_changes_nothing(loss: str, store: Store) -> None:
    promoted(store, 1)
    promoted(store, 2)
    folder = store.folder("package", bundle(store, 1).key)
    if loss == "gone":
        folder.rename(store.root / "elsewhere")
    else:
        (folder / "bundle" / "weights").write_text("weights 9")
    with pytest.raises(UserError, match=r"rollback: package/.*(weights is damaged|has left the store)"):
        registry.rollback(store)
    assert registry.current(store) == bundle(store, 2)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def other_key(content: bytes) -> bytes:
    return re.sub(rb'"key": "[0-9a-f]', b'"key": "g', content)


@pytest.mark.parametrize("harm", [cut, other_key, lambda content: b"", lambda content: b"\xff\xfe[[[[{", None])
def test_a_damaged_pointer_is_told_with_the_command_that_restores_it(
    harm: Callable[[bytes], bytes] | None, store: Store
) -> None:
    promoted(store, 1)
    promoted(store, 2)
    pointer = registry.pointer_of(store)
    if harm is None:
        pointer.unlink()
    else:
        pointer.write_bytes(harm(pointer.read_bytes()))
    told = ""
    for act in (registry.current, registry.rollback, registry.history, lambda held: collect(held, 1)):
        with pytest.raises(UserError, match=r"registry: .*no model is guessed; cp ") as caught:
            act(store)
        told = str(caught.value)
    assert "\n" not in told
    subprocess.run(told.partition("; ")[2].split()[:3], check=True)
    assert registry.current(store) == bundle(store, 2)


def test_a_damaged_record_is_named(store: Store) -> None:
    promoted(store, 1)
    promoted(store, 2)
    (store.root / "registry" / "history" / "000001-promoted.json").write_text("{}")
    assert registry.current(store) == bundle(store, 2), "what is served does not hang on the past"
    with pytest.raises(UserError, match=r"000001-promoted.json is damaged"):
        registry.history(store)


def test_a_decision_against_a_champion_that_is_gone_by_now_moves_nothing(store: Store) -> None:
    promoted(store, 1)
    late = decision(store, 3)
    promoted(store, 2)
    with pytest.raises(UserError, match="while the gates ran"):
        registry.promote(store, late)
    assert registry.current(store) == bundle(store, 2)


def test_gc_keeps_what_is_served_and_what_a_rollback_needs(store: Store) -> None:
    for number in (1, 2, 3):
        promoted(store, number)
    local = LocalRun(store)
    local(PACKAGE, PackageConfig(number=4))
    record_run(store, "full", local.results)
    sweep(store, collect(store, 1))
    left = {path.name for path in store.folders("package")}
    assert left == {bundle_key(store, number) for number in (2, 3, 4)}
    assert registry.rollback(store).number == 4


def bundle_key(store: Store, number: int) -> str:
    from pipelines.artifacts.key import identity_of, key_of

    return key_of(identity_of(PACKAGE, PackageConfig(number=number), {}, store.pins))


def test_the_registry_is_no_stage_of_the_store(store: Store) -> None:
    promoted(store, 1)
    assert {path.parent.name for path in store.folders()} == {"package"}


def test_of_two_promotions_at_once_one_moves_the_pointer(store: Store) -> None:
    promoted(store, 1)
    decisions = [decision(store, number) for number in (2, 3)]
    children = [forked(lambda held=held: registry.promote(store, held)) for held in decisions]
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0, 3]
    assert [record.number for record in registry.history(store)] == [1, 2]


TOUCHES = {"open", "os.rename", "os.mkdir"}


def forked(act: Callable[[], Any], kill_at: int | None = None, root: Path | None = None) -> int:
    """Run `act` in a forked child, killed at its `kill_at`-th touch of a file below `root`; return its pid."""
    child = os.fork()
    if child:
        return child
    touched = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in TOUCHES and str(arguments[0]).startswith(str(root)):
            touched[0] += 1
            if touched[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 0
    try:
        if root is not None:
            sys.addaudithook(watch)
        act()
    except UserError:
        status = 3
    except BaseException:  # noqa: BLE001 - a child of a test must not go on as a second pytest
        status = 4
    os._exit(status)


@pytest.mark.parametrize("action", ["promote", "refuse", "rollback"])
def test_a_kill_at_each_touch_of_a_file_leaves_the_old_state_or_the_new(action: str, tmp_path: Path) -> None:
    kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        store = Store(tmp_path / str(kills))
        store.prepare()
        before = [promoted(store, number) for number in (1, 2)][1].model
        held = decision(store, 3, passed=action == "promote")
        act = partial(registry.rollback, store) if action == "rollback" else partial(registry.promote, store, held)
        child = forked(act, kills + 1, store.root / "registry")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        consistent(store, 2)
        filed = len(registry.history(store)) == 3
        assert (registry.current(store) != before) == (filed and action != "refuse")
        kills += code == -signal.SIGKILL
    assert code == 0 and filed and kills >= 4
    print(f"{action}: killed at each of {kills} touches")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["promote", "refuse", "rollback"]),
        st.integers(1, 4),
        st.one_of(st.none(), st.integers(1, 14)),
    ),
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_promotions_refusals_rollbacks_and_kills_is_one_story(
    steps: list[tuple[str, int, int | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("sequence") / "store")
    store.prepare()
    serving: list[str] = []  # the models that serve and served, as a stack: what a rollback pops
    for action, number, kill_at in steps:
        before = (list(serving), len(registry.history(store)))
        held = decision(store, number, passed=action != "refuse")
        act = (
            (lambda: registry.rollback(store))
            if action == "rollback"
            else lambda held=held: registry.promote(store, held)
        )
        code = os.waitstatus_to_exitcode(os.waitpid(forked(act, kill_at, store.root / "registry"), 0)[1])
        after = expected(serving, action, held.challenger.key)
        now = registry.current(store)
        found = now.key if now else None
        if code == 0:
            serving = after
            assert found == (serving[-1] if serving else None)
        elif code == 3:
            assert action == "rollback" and len(serving) < 2
            assert found == (serving[-1] if serving else None)
        else:
            assert code == -signal.SIGKILL
            assert found in {serving[-1] if serving else None, after[-1] if after else None}
            if found != (serving[-1] if serving else None):
                serving = after
        consistent(store, before[1])


def expected(serving: list[str], action: str, key: str) -> list[str]:
    if action == "promote":
        return serving if serving[-1:] == [key] else [*serving, key]
    return serving[:-1] if action == "rollback" and len(serving) > 1 else serving


def consistent(store: Store, records_before: int) -> None:
    """The numbers rise by one, no record is lost, and the pointer is the last record that moved it."""
    records = registry.history(store)
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert len(records) in (records_before, records_before + 1)
    moved = [record for record in records if record.action != "refused"]
    assert registry.current_record(store) == (moved[-1] if moved else None)
