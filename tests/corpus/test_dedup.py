import json
import lzma
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.corpus.dedup import DedupConfig, dedup
from pipelines.corpus.documents import PROVENANCE, document_id, part_name, read_documents, write_documents
from pipelines.corpus.duplicates.minhash import choose_bands, meeting_chance
from pipelines.corpus.ngrams import ngram_hashes, normalised, shingles, word_hashes, words

SCHEMA = PROVENANCE.append(pa.field("language", pa.string()))
VOCABULARY = [f"word{number}" for number in range(500)]


def prose(seed: int, length: int = 60) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def edited(text: str, seed: int, edits: int) -> str:
    rng = random.Random(seed)
    found = text.split()
    for place in rng.sample(range(len(found)), edits):
        found[place] = f"new{rng.randrange(10**9)}"
    return " ".join(found)


def identified(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(document_id("sha256:0", number), text) for number, text in enumerate(texts)]


def write(
    folder: Path,
    rows: Sequence[tuple[str, str]],
    per_part: int = 10_000,
    columns: Mapping[str, Sequence[object]] | None = None,
) -> Path:
    for number, start in enumerate(range(0, max(len(rows), 1), per_part)):
        documents = [
            Document(
                text=text,
                id=name,
                metadata={
                    "url": f"https://example.org/{name}",
                    "source_uri": "a.warc",
                    "record_offset": 0,
                    "record_digest": "sha256:0",
                    "crawl_time": "2026-01-01T00:00:00Z",
                    "language": "en",
                    **{column: values[place] for column, values in (columns or {}).items()},
                },
            )
            for place, (name, text) in enumerate(rows[start : start + per_part], start)
        ]
        write_documents(folder / part_name(number), folder, SCHEMA, documents)
    return folder


def run(folder: Path, rows: Sequence[tuple[str, str]], per_part: int = 10_000, **settings: float) -> dict[str, float]:
    documents = write(folder / "in", rows, per_part)
    return dedup(DedupConfig(**settings), documents=documents, out=folder / "out")


def kept(folder: Path) -> list[str]:
    return [document.id for document in read_documents(folder / "out" / "documents")]


def clusters(folder: Path) -> list[dict[str, object]]:
    return list(pq.read_table(folder / "out" / "clusters" / "clusters.parquet").to_pylist())


def jaccard(one: str, other: str, n: int = 5) -> float:
    left, right = (set(shingles(text, n).tolist()) for text in (one, other))
    return len(left & right) / len(left | right)


def test_an_exact_duplicate_is_dropped_and_its_keeper_recorded(tmp_path: Path) -> None:
    rows = identified([prose(1), prose(2), prose(1)])
    metrics = run(tmp_path, rows)
    assert (metrics["in"], metrics["kept"], metrics["dropped.exact"], metrics["dropped.near"]) == (3, 2, 1, 0)
    one, other = sorted([rows[0][0], rows[2][0]])
    convicted = {"neighbour_id": one, "neighbour_similarity": 1.0}
    assert clusters(tmp_path) == [{"id": other, "kept_id": one, "kind": "exact", "similarity": 1.0, **convicted}]
    assert set(kept(tmp_path)) == {one, rows[1][0]}


def test_blanks_and_unicode_composition_make_no_difference(tmp_path: Path) -> None:
    rows = identified(["Café  au\n lait", "Cafe\u0301 au lait ", "Cafe au lait"])
    metrics = run(tmp_path, rows)
    assert (metrics["kept"], metrics["dropped.exact"]) == (2, 1)


def test_a_near_duplicate_is_dropped_with_its_exact_similarity(tmp_path: Path) -> None:
    text = prose(1, 200)
    near = edited(text, 2, 3)
    rows = identified([text, near, prose(3, 200)])
    metrics = run(tmp_path, rows)
    assert (metrics["kept"], metrics["dropped.near"]) == (2, 1)
    (row,) = clusters(tmp_path)
    assert row["kind"] == "near"
    assert row["similarity"] == pytest.approx(jaccard(text, near))


def test_the_longest_document_is_kept_and_among_equals_the_smallest_id(tmp_path: Path) -> None:
    text = prose(1, 100)
    rows = [("bb", text), ("aa", text), ("zz", f"{text} and more"), ("cc", prose(2)), ("dd", prose(2))]
    run(tmp_path, rows)
    assert kept(tmp_path) == ["zz", "cc"]
    kinds = {str(row["id"]): (row["kept_id"], row["kind"]) for row in clusters(tmp_path)}
    assert kinds == {"aa": ("zz", "near"), "bb": ("zz", "exact"), "dd": ("cc", "exact")}


def test_a_dropped_document_is_convicted_by_verified_pairs_up_to_the_kept_one(tmp_path: Path) -> None:
    texts = [prose(1, 100)]
    for step in range(1, 10):  # each resembles the one before it; the last does not resemble the first
        texts.append(" ".join([*texts[-1].split()[2:], f"more{step}"]))
    rows = identified(texts)
    run(tmp_path, rows)
    by_name = dict(rows)
    gone = {str(row["id"]): row for row in clusters(tmp_path)}
    assert kept(tmp_path) == [rows[0][0]]
    for name, row in gone.items():
        assert row["similarity"] == pytest.approx(jaccard(by_name[name], texts[0]))
        walked = 0
        while name in gone:
            neighbour = str(gone[name]["neighbour_id"])
            alike = jaccard(by_name[name], by_name[neighbour])
            assert gone[name]["neighbour_similarity"] == pytest.approx(alike)
            assert alike >= 0.8
            name, walked = neighbour, walked + 1
            assert walked <= len(rows)
        assert name == row["kept_id"]
    assert min(float(str(row["similarity"])) for row in gone.values()) < 0.8


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    texts = [edited(prose(number % 90), number, number % 3) for number in range(400)]
    write(tmp_path / "in", identified(texts), per_part=57)
    written = []
    for workers in (1, 2, 4):
        out = tmp_path / f"out-{workers}"
        dedup(DedupConfig(workers=workers), documents=tmp_path / "in", out=out)
        files = sorted(path for path in out.rglob("*") if path.is_file())
        written.append({str(path.relative_to(out)): path.read_bytes() for path in files})
    assert written[0] == written[1] == written[2]
    assert {"index/keys.bin", "index/shingles.bin", "clusters/summary.json"} <= written[0].keys()


def test_the_oldest_document_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    text = prose(1, 100)
    times = {"bb": "2024-05-01T00:00:00Z", "aa": "2024-05-01T01:30:00+02:00", "cc": "not known", "dd": "2025-01-01"}
    rows = [(name, text) for name in times]
    write(tmp_path / "in", [*rows, ("longer", f"{text} and more")], columns={"crawl_time": [*times.values(), None]})
    dedup(DedupConfig(keep="oldest"), documents=tmp_path / "in", out=tmp_path / "out")
    assert kept(tmp_path) == ["aa"]


def test_the_best_document_is_the_one_of_the_highest_score(tmp_path: Path) -> None:
    text = prose(1, 100)
    rows = [("aa", text), ("bb", f"{text} and more"), ("cc", text), ("dd", text)]
    write(tmp_path / "in", rows, columns={"record_offset": [5, None, 7, 7]})
    dedup(DedupConfig(keep="best", score="record_offset"), documents=tmp_path / "in", out=tmp_path / "out")
    assert kept(tmp_path) == ["cc"]


@pytest.mark.parametrize("score", ["quality", "language"])
def test_a_score_that_the_documents_lack_is_refused_by_name(tmp_path: Path, score: str) -> None:
    write(tmp_path / "in", identified([prose(1)]))
    with pytest.raises(UserError, match=f"column '{score}', which the documents do not have.*record_offset"):
        dedup(DedupConfig(keep="best", score=score), documents=tmp_path / "in", out=tmp_path / "out")


def test_of_one_address_one_document_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = identified([prose(number) for number in range(6)])
    urls = ["HTTP://Example.org:80/a/../b%7e#top", "http://example.org/b~", "http://example.org/b~?x=1", "", None, None]
    write(tmp_path / "in", rows, columns={"url": urls})
    plain = dedup(DedupConfig(), documents=tmp_path / "in", out=tmp_path / "plain")
    metrics = dedup(DedupConfig(by_url=True), documents=tmp_path / "in", out=tmp_path / "out")
    assert plain["kept"] == 6
    assert (metrics["kept"], metrics["dropped.url"]) == (5, 1)
    (row,) = clusters(tmp_path)
    assert row["kind"] == "url"
    assert {row["id"], row["kept_id"]} == {rows[0][0], rows[1][0]}
    assert row["similarity"] == pytest.approx(jaccard(rows[0][1], rows[1][1]))


def test_the_summary_says_how_pairs_meet_and_shows_some(tmp_path: Path) -> None:
    texts = [edited(prose(number % 40, 200), number, number // 40) for number in range(160)]
    run(tmp_path, identified([*texts, texts[0]]))
    summary = json.loads((tmp_path / "out" / "clusters" / "summary.json").read_text())
    assert (summary["bands"], summary["rows"]) == choose_bands(0.8, 128, 0.999)
    assert sum(size * count for size, count in summary["cluster_sizes"]) == 161
    assert sum(count for _, count in summary["cluster_sizes"]) == len(kept(tmp_path))
    by_name = dict(identified(texts))
    for pair in summary["pairs"]:
        one, other = (by_name[found["id"]] for found in pair["documents"])
        assert pair["similarity"] == pytest.approx(jaccard(one, other))
        assert pair["documents"][0]["text"] == one[:300]
    assert 0 < len(summary["pairs"]) <= 10


def test_a_pair_below_the_threshold_stays_though_it_meets_in_many_bands(tmp_path: Path) -> None:
    text = prose(1, 200)
    below = edited(text, 2, 7)
    assert 0.6 < jaccard(text, below) < 0.8
    metrics = run(tmp_path, identified([text, below]))
    assert metrics["kept"] == 2
    assert metrics["candidates"] >= 1


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_the_clusters_are_those_of_exact_single_linkage(tmp_path: Path, threshold: float) -> None:
    originals = [prose(seed, 80) for seed in range(60)]
    texts = originals + [edited(originals[seed % 60], seed, seed % 9) for seed in range(100, 240)]
    metrics = run(tmp_path, identified(texts), threshold=threshold)
    parent = list(range(len(texts)))

    def find(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    sets = [set(shingles(text, 5).tolist()) for text in texts]
    for one, other in combinations(range(len(texts)), 2):
        common = len(sets[one] & sets[other])
        if common / (len(sets[one]) + len(sets[other]) - common) >= threshold:
            parent[find(one)] = find(other)
    assert metrics["kept"] == len({find(place) for place in range(len(texts))})
    names = {name: place for place, (name, _) in enumerate(identified(texts))}
    assert all(find(names[str(row["id"])]) == find(names[str(row["kept_id"])]) for row in clusters(tmp_path))


def test_every_document_is_kept_or_has_a_keeper_in_the_output(tmp_path: Path) -> None:
    texts = [prose(seed % 20, 50) for seed in range(60)] + [edited(prose(seed, 50), seed, 1) for seed in range(20)]
    rows = identified(texts)
    metrics = run(tmp_path, rows)
    alive, gone = kept(tmp_path), clusters(tmp_path)
    assert set(alive) | {row["id"] for row in gone} == {name for name, _ in rows}
    assert {row["kept_id"] for row in gone} <= set(alive)
    assert metrics["in"] == metrics["kept"] + metrics["dropped.exact"] + metrics["dropped.near"] == len(rows)
    assert len(alive) == metrics["kept"]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(40)), per_part=st.sampled_from([3, 7, 40]))
def test_neither_order_nor_division_into_parts_matters(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], per_part: int
) -> None:
    texts = [edited(prose(number % 12, 60), number, number % 4) for number in range(40)]
    rows = identified(texts)
    plain, shuffled = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("shuffled")
    assert run(plain, rows) == run(shuffled, [rows[place] for place in order], per_part)
    assert sorted(kept(plain)) == sorted(kept(shuffled))
    assert clusters(plain) == clusters(shuffled)


def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    write(tmp_path / "in", identified([edited(prose(number % 9), number, number % 3) for number in range(40)]))
    script = (
        "import sys; from pathlib import Path; from pipelines.corpus.dedup import *;"
        "dedup(DedupConfig(), documents=Path(sys.argv[1]), out=Path(sys.argv[2]))"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "in"), str(tmp_path / "other")]
    subprocess.run(arguments, check=True, env={"PYTHONHASHSEED": "1"}, cwd=Path(__file__).parents[2])
    dedup(DedupConfig(), documents=tmp_path / "in", out=tmp_path / "own")
    for name in ("documents/part-00000.parquet", "clusters/clusters.parquet"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_bucket_of_thousands_of_like_documents_takes_linear_work(tmp_path: Path) -> None:
    form = prose(1, 150)
    rows = identified([form] * 1_000 + [f"{form} {number}" for number in range(2_000)])
    metrics = run(tmp_path, rows)
    assert metrics["kept"] == 1
    assert metrics["verified"] <= 4 * 2_001


@pytest.mark.slow
def test_fifty_thousand_identical_documents_and_letters_of_one_form_take_linear_work(tmp_path: Path) -> None:
    form = prose(1, 150)
    letters = [" ".join([form, *(f"fact{number}x{place}" for place in range(45))]) for number in range(5_000)]
    rows = identified([prose(2)] * 50_000 + letters + [f"{form} {number}" for number in range(5_000)])
    metrics = run(tmp_path, rows)
    assert metrics["kept"] == 1 + len(letters) + 1
    assert metrics["dropped.exact"] == 49_999
    assert metrics["candidates"] <= 300 * 10_001, (
        "in 25 bands: a dozen a document and band, where all pairs are 50 million"
    )


def test_kept_rows_keep_every_column_and_their_part(tmp_path: Path) -> None:
    rows = identified([prose(number % 4) for number in range(10)])
    run(tmp_path, rows, per_part=5)
    one, two = (pq.read_table(tmp_path / "out" / "documents" / part_name(number)) for number in (0, 1))
    before = pq.read_table(tmp_path / "in" / part_name(0))
    assert one.schema == before.schema
    assert one.num_rows + two.num_rows == 4
    assert set(map(str, one.to_pylist())) <= set(map(str, before.to_pylist()))


def test_texts_without_words_are_equal_or_unlike_but_never_near(tmp_path: Path) -> None:
    metrics = run(tmp_path, identified(["!!!", "???", "!!!", "☃", ""]))
    assert (metrics["kept"], metrics["dropped.exact"], metrics["dropped.near"]) == (4, 1, 0)


def test_a_very_long_line_is_signed_in_bounded_pieces(tmp_path: Path) -> None:
    long = prose(1, 200_000)
    metrics = run(tmp_path, identified([long, edited(long, 1, 500), "x" * 1_000_000]))
    assert (metrics["kept"], metrics["dropped.near"]) == (2, 1)


def test_no_documents_are_an_empty_output(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput, match="dedup: no document is left"):
        run(tmp_path, [])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_a_pair_at_the_threshold_meets_almost_surely(threshold: float) -> None:
    bands, rows = choose_bands(threshold, 128, 0.999)
    assert bands * rows <= 128
    assert meeting_chance(threshold, bands, rows) >= 0.999
    assert rows == 128 or meeting_chance(threshold, 128 // (rows + 1), rows + 1) < 0.999


def test_too_few_permutations_are_named() -> None:
    with pytest.raises(UserError, match=r"dedup\.permutations: 16 are too few"):
        choose_bands(0.3, 16, 0.9999999)


def test_words_know_neither_case_nor_punctuation_nor_ligatures() -> None:
    assert words("The ﬁrst, Straße_1!") == ["the", "first", "strasse_1"]
    assert words("日本語 abc") == ["日", "本", "語", "abc"]


def test_a_shingle_set_is_that_of_its_runs_of_words() -> None:
    assert len(shingles("a b c d e f", 5)) == 2
    assert len(shingles("a a a a a a a", 5)) == 1
    assert len(shingles("a b", 5)) == 1
    assert len(shingles("?", 5)) == 0
    assert shingles("a b c", 3) != shingles("c b a", 3)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 6))
def test_ngrams_are_equal_exactly_where_the_words_are(letters: list[str], n: int) -> None:
    grams = [tuple(letters[start : start + n]) for start in range(len(letters) - n + 1)]
    hashed = ngram_hashes(word_hashes(letters), n)
    assert len(hashed) == len(grams)
    assert len(np.unique(hashed)) == len(set(grams))


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_labelled_plagiarism_is_found(tmp_path: Path, shared_data: Path) -> None:
    lines, truth = (
        lzma.decompress((shared_data / "filters" / f"articles_1000.{name}.xz").read_bytes()).decode().splitlines()
        for name in ("train", "truth")
    )
    pairs = {frozenset(line.split()) for line in truth if line.strip()}
    run(tmp_path, [tuple(line.split(" ", 1)) for line in lines])  # type: ignore[misc]
    assert {frozenset((row["id"], row["kept_id"])) for row in clusters(tmp_path)} == pairs
