"""The store publishes whole or not at all, and finds what it has by content alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts import build as build_module
from pipelines.artifacts import key as key_module
from pipelines.artifacts.build import build
from pipelines.artifacts.collect import collect, sweep
from pipelines.artifacts.errors import DamagedArtifact, StageFailed, UserError
from pipelines.artifacts.key import digest_of
from pipelines.artifacts.lineage import ancestors
from pipelines.artifacts.manifest import Artifact
from pipelines.artifacts.run import LocalRun, Planner, Run, record_run, until_sound
from pipelines.artifacts.store import Store, damaged_files, read_manifest
from pipelines.artifacts.work import read_progress
from tests.artifacts.toys import COUNT, SOURCE, UPPER, CountConfig, SourceConfig, UpperConfig


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("one ")
    (folder / "b.txt").write_text("two ")
    return folder


def chain(run: Run, config: SourceConfig, mark: str = "!", steps: int = 5) -> Artifact:
    found = run(SOURCE, config)
    loud = run(UPPER, UpperConfig(mark=mark), text=found["text"])
    return run(COUNT, CountConfig(steps=steps), text=loud["text"])


def walk(store: Store, config: SourceConfig, **settings: object) -> dict[str, bool]:
    """Run the chain and return whether each node was a hit."""
    run = LocalRun(store)
    until_sound(lambda: chain(run, config, **settings), run)
    return {result.node: result.hit for result in run.results}


def states(store: Store, config: SourceConfig, **settings: object) -> dict[str, str]:
    planner = Planner(store)
    chain(planner, config, **settings)
    return {row.node: row.state for row in planner.rows}


def test_a_second_run_is_all_hits(store: Store, texts: Path) -> None:
    config = SourceConfig(path=texts)
    assert set(walk(store, config).values()) == {False}
    assert set(walk(store, config).values()) == {True}


def test_the_same_files_in_another_folder_with_other_times_still_hit(store: Store, texts: Path, tmp_path: Path) -> None:
    walk(store, SourceConfig(path=texts))
    moved = tmp_path / "elsewhere"
    shutil.copytree(texts, moved)
    os.utime(moved / "a.txt", (1, 1))
    assert set(walk(store, SourceConfig(path=moved)).values()) == {True}


def test_one_changed_byte_under_the_same_name_size_and_mtime_misses(store: Store, texts: Path) -> None:
    walk(store, SourceConfig(path=texts))
    before = (texts / "a.txt").stat()
    (texts / "a.txt").write_text("ona ")
    os.utime(texts / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert walk(store, SourceConfig(path=texts)) == {"source": False, "upper": False, "count": False}


def test_a_rebuilt_input_with_equal_bytes_is_still_a_hit_for_what_follows(store: Store, texts: Path) -> None:
    (texts / "a.txt").write_text("")
    (texts / "b.txt").write_text("")
    walk(store, SourceConfig(path=texts, repeat=1))
    assert walk(store, SourceConfig(path=texts, repeat=2)) == {"source": False, "upper": True, "count": True}


def test_a_runtime_field_and_the_order_of_a_dict_change_nothing(store: Store, texts: Path) -> None:
    walk(store, SourceConfig(path=texts, labels={"a": 1, "b": 2}))
    again = SourceConfig(path=texts, labels={"b": 2, "a": 1}, workers=7)
    assert set(walk(store, again).values()) == {True}


def test_the_log_of_a_stage_has_no_digest(store: Store, texts: Path) -> None:
    built = build(store, SOURCE, SourceConfig(path=texts), {}, node="source")
    assert set(built.manifest.outputs) == {"text"}
    assert "log/workers.txt" in built.manifest.files


def test_a_new_version_of_a_stage_or_of_its_library_misses(
    store: Store, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SourceConfig(path=texts)
    first = build(store, SOURCE, config, {}, node="source")
    assert not build(store, replace(SOURCE, version=2), config, {}, node="source").hit
    monkeypatch.setattr(key_module, "library_version", lambda name: "999")
    newer = build(store, SOURCE, config, {}, node="source")
    assert not newer.hit and newer.manifest.key != first.manifest.key


def test_what_cannot_be_hashed_raises() -> None:
    class Odd(SourceConfig):
        thing: object = object()

    with pytest.raises(TypeError, match="thing"):
        Odd().identity()
    with pytest.raises(ValueError):
        digest_of({"rate": float("nan")})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_digest_does_not_depend_on_the_order_of_keys(value: object) -> None:
    def turned(item: object) -> object:
        if isinstance(item, dict):
            return {name: turned(item[name]) for name in reversed(item)}
        return [turned(inner) for inner in item] if isinstance(item, list) else item

    assert digest_of(value) == digest_of(turned(value))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.data())
def test_any_flipped_byte_of_any_file_is_found_and_rebuilt(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("flip")
    (root / "t.txt").write_text("some text ")
    store = Store(root / "store")
    store.prepare()
    config = SourceConfig(path=root / "t.txt")
    built = build(store, SOURCE, config, {}, node="source")
    name = data.draw(st.sampled_from(sorted(built.manifest.files)))
    path = built.artifact.path / name
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    assert damaged_files(built.artifact.path, built.manifest) == [name]
    if name.startswith("text/"):
        with pytest.raises(DamagedArtifact):
            build(store, UPPER, UpperConfig(), {"text": built.artifact["text"]}, node="upper")
        assert not build(store, SOURCE, config, {}, node="source").hit


def test_a_damaged_input_is_quarantined_and_rebuilt_in_the_same_run(store: Store, texts: Path) -> None:
    config = SourceConfig(path=texts)
    walk(store, config)
    source = next(store.manifests("source"))
    (store.folder("source", source.key) / "text" / "all.txt").write_text("one twx ")  # the size stays
    assert walk(store, config, mark="?") == {"source": False, "upper": False, "count": False}
    assert len(list((store.root / ".quarantine" / "source").iterdir())) == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_manifest_counts_as_no_artifact(store: Store, texts: Path, share: float) -> None:
    built = build(store, SOURCE, SourceConfig(path=texts), {}, node="source")
    manifest = built.artifact.path / "manifest.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content[: int(len(content) * share)])
    assert store.find("source", built.manifest.key) is None
    assert not build(store, SOURCE, SourceConfig(path=texts), {}, node="source").hit


def test_a_missing_or_short_file_counts_as_no_artifact(store: Store, texts: Path) -> None:
    built = build(store, SOURCE, SourceConfig(path=texts), {}, node="source")
    (built.artifact.path / "text" / "all.txt").write_text("short")
    assert store.find("source", built.manifest.key) is None
    assert states(store, SourceConfig(path=texts))["source"] == "miss"


def test_a_resumable_stage_goes_on_where_it_stopped_and_shows_as_partial(store: Store, texts: Path) -> None:
    text = build(store, SOURCE, SourceConfig(path=texts), {}, node="source").artifact["text"]
    with pytest.raises(StageFailed, match="stopped in the middle"):
        build(store, COUNT, CountConfig(stop_at=4), {"text": text}, node="count")
    planner = Planner(store)
    planner(COUNT, CountConfig(), text=text)
    assert planner.rows[0].state == "partial" and planner.rows[0].progress.done == 3
    built = build(store, COUNT, CountConfig(), {"text": text}, node="count")
    assert built.manifest.metrics["resumed_at"] == 3
    assert not (built.artifact.path / ".progress").exists()


def test_the_work_of_a_stage_that_is_not_resumable_is_wiped(store: Store, texts: Path) -> None:
    config = SourceConfig(path=texts)
    planner = Planner(store)
    planner(SOURCE, config)
    work = store.work("source", planner.rows[0].key)
    work.mkdir(parents=True)
    (work / "half.bin").write_bytes(b"half")
    built = build(store, SOURCE, config, {}, node="source")
    assert not any("half" in name for name in built.manifest.files)


def test_a_plan_without_any_build_waits_for_its_inputs(store: Store, texts: Path) -> None:
    assert states(store, SourceConfig(path=texts)) == {"source": "miss", "upper": "waiting", "count": "waiting"}


def test_a_plan_names_the_field_that_makes_a_stage_miss(store: Store, texts: Path) -> None:
    walk(store, SourceConfig(path=texts))
    planner = Planner(store)
    chain(planner, SourceConfig(path=texts), steps=9)
    assert [row.state for row in planner.rows] == ["hit", "hit", "miss"]
    assert planner.rows[2].changes == ("config.steps: 5 → 9",)


def test_a_source_that_does_not_exist_or_is_empty_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        states(store, SourceConfig(path=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        states(store, SourceConfig(path=tmp_path / "empty"))


def test_lineage_lists_inputs_before_what_was_made_of_them(store: Store, texts: Path) -> None:
    run = LocalRun(store)
    last = chain(run, SourceConfig(path=texts))
    assert [manifest.stage for manifest in ancestors(last.path)] == ["source", "upper", "count"]


def test_gc_keeps_what_recent_runs_used_and_what_that_was_built_from(store: Store, texts: Path) -> None:
    for repeat in (1, 2):
        run = LocalRun(store)
        chain(run, SourceConfig(path=texts, repeat=repeat))
        record_run(store, "toy", run.results[-1:])
    sweep(store, collect(store, keep_runs=1))
    left = list(store.manifests())
    assert sorted(manifest.stage for manifest in left) == ["count", "source", "upper"]
    assert all(manifest.identity["config"].get("repeat", 2) == 2 for manifest in left)
    assert set(states(store, SourceConfig(path=texts, repeat=2)).values()) == {"hit"}


def test_gc_keeps_what_the_config_of_a_recent_run_names_in_the_store(store: Store, texts: Path) -> None:
    earlier = build(store, SOURCE, SourceConfig(path=texts), {}, node="source").artifact
    run = LocalRun(store)
    chain(run, SourceConfig(path=earlier["text"].path))
    record_run(store, "toy", run.results)
    sweep(store, collect(store, keep_runs=1))
    assert store.find("source", earlier.key)


def test_gc_leaves_the_work_of_a_running_build(store: Store) -> None:
    work = store.work("count", "k" * 64)
    work.mkdir(parents=True)
    with store.lock("count", "k" * 64):
        assert collect(store, 1) == []
    assert [path for path, _ in collect(store, 1)] == [work]


def test_a_metric_that_is_not_finite_fails_the_stage(store: Store, texts: Path) -> None:
    text = build(store, SOURCE, SourceConfig(path=texts), {}, node="source").artifact["text"]

    def broken(config: UpperConfig, *, text: Path, out: Path) -> dict[str, float]:
        (out / "text").mkdir()
        (out / "text" / "a").write_text("x")
        return {"loss": float("nan")}

    with pytest.raises(StageFailed, match="loss is nan"):
        build(store, replace(UPPER, run=broken), UpperConfig(), {"text": text}, node="upper")


def test_a_file_outside_the_named_outputs_fails_the_stage(store: Store) -> None:
    def stray(config: UpperConfig, *, out: Path) -> dict[str, float]:
        (out / "loose.txt").write_text("x")
        return {}

    with pytest.raises(StageFailed, match=r"loose\.txt"):
        build(store, replace(UPPER, run=stray), UpperConfig(), {}, node="upper")


def test_a_read_only_store_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        Store(tmp_path / "file" / "store").prepare()


def test_a_full_disk_is_one_line_and_leaves_earlier_artifacts(store: Store, texts: Path) -> None:
    found = build(store, SOURCE, SourceConfig(path=texts), {}, node="source")
    script = textwrap.dedent(
        f"""
        import resource, signal, sys
        from pathlib import Path
        from pipelines.artifacts.build import build
        from pipelines.artifacts.errors import StageFailed
        from pipelines.artifacts.store import Store
        from tests.artifacts.toys import SOURCE, SourceConfig
        store = Store(Path({str(store.root)!r}))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
        try:
            build(store, SOURCE, SourceConfig(path=Path({str(texts)!r}), repeat=1 << 17), {{}}, node="source")
        except StageFailed as error:
            print(error)
        """
    )
    done = python(script)
    assert "no space left" in done.stdout, done.stderr
    assert store.find("source", found.manifest.key) is not None
    assert len(list(store.manifests())) == 1


def python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)


ROOT = Path(__file__).resolve().parents[2]
SLOW_BUILD = """
import sys, time
from pathlib import Path
from dataclasses import replace
from pipelines.artifacts.build import build
from pipelines.artifacts.store import Store
from tests.artifacts.toys import SOURCE, SourceConfig, source
def slow(config: SourceConfig, *, out: Path) -> dict[str, float]:
    with open({log!r}, "a") as log:
        log.write("ran\\n")
    time.sleep({seconds})
    return source(config, out=out)
build(Store(Path({root!r})), replace(SOURCE, run=slow), SourceConfig(path=Path({path!r})), {{}}, node="source")
"""


def slow_build(store: Store, texts: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    script = SLOW_BUILD.format(root=str(store.root), path=str(texts), log=str(log), seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def ran(log: Path) -> int:
    return log.read_text().count("ran") if log.exists() else 0


def test_of_two_runs_of_the_same_key_one_builds_and_the_other_waits(store: Store, texts: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [slow_build(store, texts, log, 1.0) for _ in range(2)]
    messages = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert ran(log) == 1
    assert sum("another run is building" in message for message in messages) == 1


def test_a_killed_builder_frees_the_lock_and_leaves_nothing_published(
    store: Store, texts: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    victim = slow_build(store, texts, log, 60)
    while not ran(log):
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert list(store.manifests()) == []
    assert not build(store, SOURCE, SourceConfig(path=texts), {}, node="source").hit


def test_a_child_that_outlives_its_parent_still_holds_the_lock(store: Store) -> None:
    script = f"""
import os, signal, subprocess, sys
from pathlib import Path
from pipelines.artifacts.store import Store
with Store(Path({str(store.root)!r})).lock("source", "k"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"], close_fds=False, stdout=2)
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    started = time.monotonic()
    done = python(script)
    assert done.returncode == -signal.SIGKILL
    with store.lock("source", "k"):
        assert time.monotonic() - started > 1.4


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.rename", "pathlib.Path.replace", "shutil.rmtree"])
@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_kill_at_any_write_of_the_publication_leaves_all_or_nothing(
    store: Store, texts: Path, call: str, at: int
) -> None:
    module, _, name = call.rpartition(".")
    script = f"""
import os, pathlib, shutil, signal
from pathlib import Path
from pipelines.artifacts.build import build
from pipelines.artifacts.store import Store
from tests.artifacts.toys import SOURCE, SourceConfig
calls = 0
original = {call}
def dies(*args, **kwargs):
    global calls
    calls += 1
    if calls == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr({module}, {name!r}, dies)
build(Store(Path({str(store.root)!r})), SOURCE, SourceConfig(path=Path({str(texts)!r})), {{}}, node="source")
"""
    done = python(script)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    for manifest in store.manifests():
        assert damaged_files(store.folder("source", manifest.key), manifest) == []
    built = build(store, SOURCE, SourceConfig(path=texts), {}, node="source")
    assert damaged_files(built.artifact.path, built.manifest) == []
    reference = Store(store.root.with_name("undisturbed"))
    reference.prepare()
    undisturbed = build(reference, SOURCE, SourceConfig(path=texts), {}, node="source")
    assert built.manifest.outputs == undisturbed.manifest.outputs


def test_an_error_inside_a_stage_is_one_line_with_its_traceback_in_a_file(store: Store, texts: Path) -> None:
    text = build(store, SOURCE, SourceConfig(path=texts), {}, node="source").artifact["text"]
    with pytest.raises(StageFailed) as caught:
        build(store, COUNT, CountConfig(stop_at=1), {"text": text}, node="count")
    line = str(caught.value)
    assert "\n" not in line and line.startswith("count: RuntimeError: stopped in the middle")
    trace = Path(line.split("traceback in ")[1].rstrip(")"))
    assert "Traceback" in trace.read_text()


def test_a_manifest_says_what_was_built_from_what(store: Store, texts: Path) -> None:
    run = LocalRun(store)
    last = chain(run, SourceConfig(path=texts))
    manifest = read_manifest(last.path)
    assert manifest is not None and manifest.inputs["text"].stage == "upper"
    assert json.loads((last.path / "manifest.json").read_text())["host"]
    assert manifest.peak_memory_bytes > 1 << 20 and manifest.seconds >= 0
    assert build_module.commit() is None or len(str(build_module.commit())) == 40
    assert read_progress(store.work("count", manifest.key)) is None
