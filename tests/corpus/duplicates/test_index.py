import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import PinCache
from pipelines.corpus.dedup import DedupConfig, dedup
from pipelines.corpus.documents import read_documents
from tests.corpus.test_dedup import edited, identified, prose, write

Rows = list[tuple[str, str]]


def corpus(seed: int) -> Rows:
    rng = random.Random(seed)
    texts = [prose(rng.randrange(12), 80) for _ in range(70)]
    texts = [edited(text, number, rng.randrange(5)) for number, text in enumerate(texts)]
    texts += [" ".join([*text.split()[rng.randrange(4) :], "more"]) for text in texts[:10]] + ["!!!", "!!!", ""]
    rng.shuffle(texts)
    return identified(texts)


def run(folder: Path, rows: Rows, **settings: object) -> dict[str, float]:
    write(folder / "in", rows, per_part=17)
    return dedup(DedupConfig(**settings), documents=folder / "in", out=folder / "out")  # type: ignore[arg-type]


def kept(folder: Path) -> set[str]:
    return {document.id for document in read_documents(folder / "out" / "documents")}


def rows_of(folder: Path, name: str) -> list[dict[str, object]]:
    return list(pq.read_table(folder / "out" / "clusters" / f"{name}.parquet").to_pylist())


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out" / "index").iterdir())}


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1_000), cut=st.integers(1, 70), workers=st.sampled_from([1, 3]))
def test_new_documents_against_an_index_and_all_from_scratch_end_in_the_same_corpus(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int, workers: int
) -> None:
    rows = corpus(seed)
    old, new, scratch = (tmp_path_factory.mktemp(name) for name in ("old", "new", "scratch"))
    run(old, rows[:cut])
    (old / "in").rename(old / "text that is gone")
    metrics = run(new, rows[cut:], index=old / "out" / "index", indexed="compete", workers=workers)
    run(scratch, rows)
    retired = {str(row["id"]) for row in rows_of(new, "retired")}
    assert retired <= kept(old)
    assert (kept(old) - retired) | kept(new) == kept(scratch)
    assert files(new) == files(scratch), "a third run goes on as if all had come at once"
    gone = {row["id"]: row for row in rows_of(scratch, "clusters")}
    assert all(row == gone[row["id"]] for row in rows_of(new, "clusters"))
    assert metrics["in"] == metrics["kept"] + metrics["dropped.exact"] + metrics["dropped.near"] == len(rows) - cut


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1_000), cut=st.integers(1, 70))
def test_the_finished_corpus_stays_and_no_new_document_resembles_it(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int
) -> None:
    rows = corpus(seed)
    old, new, again, scratch = (tmp_path_factory.mktemp(name) for name in ("old", "new", "again", "scratch"))
    run(old, rows[:cut])
    run(new, rows[cut:], index=old / "out" / "index")
    for row in rows_of(new, "clusters"):
        assert row["kept_id"] in kept(old) | kept(new)
    run(again, rows[cut:], index=new / "out" / "index")
    assert kept(again) == set(), "every document is known by now"
    run(scratch, rows)
    cluster = {str(row["id"]): str(row["kept_id"]) for row in rows_of(scratch, "clusters")}
    names = [cluster.get(name, name) for name in kept(new)]
    assert len(names) == len(set(names)), "of a cluster without an old document one new one is kept"
    assert not set(names) & {cluster.get(name, name) for name in kept(old)}


def test_a_better_new_document_is_dropped_for_the_old_one_or_retires_it(tmp_path: Path) -> None:
    text = prose(1, 100)
    run(tmp_path / "old", [("old", text), ("other", prose(2, 100))])
    better = [("new", f"{text} and more")]
    run(tmp_path / "stay", better, index=tmp_path / "old" / "out" / "index")
    run(tmp_path / "compete", better, index=tmp_path / "old" / "out" / "index", indexed="compete")
    assert kept(tmp_path / "stay") == set()
    (row,) = rows_of(tmp_path / "stay", "clusters")
    assert (row["id"], row["kept_id"], row["kind"]) == ("new", "old", "near")
    assert kept(tmp_path / "compete") == {"new"}
    assert rows_of(tmp_path / "compete", "retired") == [{"id": "old", "kept_id": "new"}]


@pytest.mark.parametrize("indexed", ["stay", "compete"])
def test_a_batch_that_is_run_again_against_its_own_index_is_told_to_hold_nothing_new(
    indexed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = corpus(3)
    first = run(tmp_path / "first", rows)
    assert "known" not in first
    again = run(tmp_path / "again", rows, index=tmp_path / "first" / "out" / "index", indexed=indexed)
    assert (again["in"], again["kept"], again["known"]) == (len(rows), 0, len(rows))
    assert f"nothing is new: {len(rows)} of {len(rows)} documents are in the index already" in capsys.readouterr().err
    third = run(tmp_path / "third", rows[:5], index=tmp_path / "again" / "out" / "index", indexed=indexed)
    assert third["known"] == 5, "each is counted once, however often the index has met it"


def test_an_index_that_is_not_there_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^dedup\.index: .*nowhere' does not exist"):
        DedupConfig(index=tmp_path / "nowhere").roots()


def test_a_document_near_to_a_dropped_one_only_is_found(tmp_path: Path) -> None:
    chain = [prose(1, 100)]
    for step in range(1, 7):
        chain.append(" ".join([*chain[-1].split()[4:], f"more{step}"]))
    rows = list(zip("gfedcba", chain, strict=True))
    run(tmp_path / "old", rows[:-1])
    assert kept(tmp_path / "old") == {"g"}
    run(tmp_path / "new", rows[-1:], index=tmp_path / "old" / "out" / "index")
    assert kept(tmp_path / "new") == set()
    (row,) = rows_of(tmp_path / "new", "clusters")
    assert (row["kept_id"], row["kind"]) == ("g", "near")
    assert float(str(row["similarity"])) < 0.8 <= float(str(row["neighbour_similarity"]))


@pytest.mark.parametrize(
    ("changed", "named"), [({"threshold": 0.7}, "threshold 0.8, not 0.7"), ({"by_url": True}, "by_url False, not True")]
)
def test_an_index_of_other_settings_is_refused_by_the_setting(
    tmp_path: Path, changed: dict[str, object], named: str
) -> None:
    run(tmp_path / "old", identified([prose(1)]))
    with pytest.raises(UserError, match=f"dedup.index: .* was made with {named}"):
        run(tmp_path / "new", identified([prose(2)]), index=tmp_path / "old" / "out" / "index", **changed)


@pytest.mark.parametrize("damage", ["index.json", "documents.parquet", "keys.bin", "shingles.bin"])
def test_a_damaged_index_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    run(tmp_path / "old", identified([prose(1)]))
    path = tmp_path / "old" / "out" / "index" / damage
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"^dedup\.index: .*$"):
        run(tmp_path / "new", identified([prose(2)]), index=path.parent)


def test_an_index_enters_the_key_by_its_content_and_can_be_left_out(tmp_path: Path) -> None:
    run(tmp_path / "old", identified([prose(1)]), keep_index=False)
    assert not (tmp_path / "old" / "out" / "index").exists()
    run(tmp_path / "one", identified([prose(1)]))
    run(tmp_path / "other", identified([prose(1)]))
    one, other = (DedupConfig(index=tmp_path / name / "out" / "index") for name in ("one", "other"))
    pins = PinCache(tmp_path / "pins.json")
    assert one.identity() == DedupConfig().identity()
    assert one.roots()["index"].pin(pins) == other.roots()["index"].pin(pins)
    held = json.loads((tmp_path / "one" / "out" / "index" / "index.json").read_text())
    assert (held["documents"], held["bands"], held["rows"]) == (1, 25, 5)


def test_an_index_that_comes_from_the_store_is_that_of_the_setting(tmp_path: Path) -> None:
    rows = corpus(3)
    old, named, given = (tmp_path / name for name in ("old", "named", "given"))
    run(old, rows[:40])
    run(named, rows, index=old / "out" / "index")
    write(given / "in", rows, per_part=17)
    metrics = dedup(DedupConfig(), documents=given / "in", index=old / "out" / "index", out=given / "out")
    assert metrics["known"] == 40
    assert files(given) == files(named) and kept(given) == kept(named)
