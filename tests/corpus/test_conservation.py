"""Counts add up at every stage, whatever mixture of good and bad records goes in."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.stage import Metrics
from pipelines.corpus.annotate import AnnotateConfig, annotate
from pipelines.corpus.decontaminate import DecontaminateConfig, decontaminate
from pipelines.corpus.dedup import DedupConfig, dedup
from pipelines.corpus.documents import count_documents
from pipelines.corpus.filter import filter
from pipelines.corpus.ingest import IngestConfig, ingest
from tests.corpus.test_filter import GOOD, ONLY_SHORT

LEAK = "the quick brown fox of the library jumped over every lazy reader that sat by the window in the afternoon"
ROWS = st.one_of(
    st.sampled_from([GOOD, f"{GOOD} {LEAK}", GOOD.upper(), "too short", "", " ", "\ud800 lone", "a" * 3_000]).map(
        lambda text: json.dumps({"text": text}).encode()
    ),
    st.text(max_size=300).map(lambda text: json.dumps({"text": text}).encode()),
    st.sampled_from([b"", b"{", b"[1]", b'{"text": null}', b'{"text": 7}', b'{"text": "a\xff"}', b"[" * 5_000]),
    st.binary(max_size=60).map(lambda data: data.replace(b"\n", b" ")),
)


def conserved(metrics: Metrics) -> bool:
    return metrics["in"] == metrics["kept"] + sum(n for name, n in metrics.items() if name.startswith("dropped."))


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROWS, max_size=25), st.sampled_from([1_000, 16_000_000]))
def test_counts_add_up_from_a_mixed_source_to_the_clean_corpus(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], shard_bytes: int
) -> None:
    out = tmp_path_factory.mktemp("mixture")
    lines = [json.dumps({"text": f"{GOOD} The first page says so."}).encode(), *rows]
    (out / "in.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (out / "questions").mkdir()
    item = {"id": "1", "question": LEAK, "choices": ["yes", "no"], "answer": 0}
    (out / "questions" / "test.jsonl").write_text(json.dumps(item) + "\n")
    source = {"kind": "jsonl", "path": str(out / "in.jsonl")}
    config = IngestConfig.model_validate({"source": source, "shard_bytes": shard_bytes, "max_text_bytes": 2_000})
    read = ingest(config, out=out / "ingest")
    scored = annotate(AnnotateConfig(), documents=out / "ingest" / "documents", out=out / "annotate")
    passed = filter(ONLY_SHORT, documents=out / "annotate" / "documents", out=out / "filter")
    unique = dedup(DedupConfig(), documents=out / "filter" / "documents", out=out / "dedup")
    clean = decontaminate(
        DecontaminateConfig(), documents=out / "dedup" / "documents", questions=out / "questions", out=out / "clean"
    )
    stages = [read, scored, passed, unique, clean]
    assert read["in"] == len(lines)
    assert all(map(conserved, stages))
    assert [after["in"] for after in stages[1:]] == [before["kept"] for before in stages[:-1]]
    folders = ["ingest", "annotate", "filter", "dedup", "clean"]
    assert [count_documents(out / name / "documents") for name in folders] == [stage["kept"] for stage in stages]
