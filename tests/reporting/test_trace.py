"""A document can be followed through a run, and its removal explained."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import LocalRun, record_run
from pipelines.artifacts.store import Store
from pipelines.corpus.ingest import INGEST, IngestConfig
from pipelines.reporting.trace import trace_document
from tests.conftest import Finished


def test_a_kept_document_is_followed_to_the_tokens_it_became(smoke_run: Finished) -> None:
    spans = pq.read_table(smoke_run.results["shard"].path / "train" / "spans.parquet").to_pylist()
    found = trace_document(smoke_run.store, spans[0]["document_id"], "full")
    nodes = [step.node for step in found.steps]
    assert nodes[:3] == ["ingest", "annotate", "filter"] and nodes[-1] == "shard"
    assert found.steps[-1].facts == {"start": spans[0]["start"], "length": spans[0]["length"]}
    assert not {"text", "pii"} & {name for step in found.steps for name in step.facts}


def test_a_dropped_document_ends_where_it_was_dropped_with_the_reason(smoke_run: Finished) -> None:
    dropped = pq.read_table(smoke_run.results["filter"].path / "dropped" / "dropped.parquet").to_pylist()[0]
    last = trace_document(smoke_run.store, dropped["id"], "full").steps[-1]
    assert [step.output for step in trace_document(smoke_run.store, dropped["id"][:12], "full").steps].count(
        "dropped"
    ) == 1
    assert (last.node, last.output, last.facts["reason"]) == ("filter", "dropped", dropped["reason"])
    assert trace_document(smoke_run.store, dropped["url"], "full").id == dropped["id"]


def test_a_duplicate_ends_with_the_document_that_stands_for_it(smoke_run: Finished) -> None:
    merged = pq.read_table(smoke_run.results["dedup"].path / "clusters" / "clusters.parquet").to_pylist()
    assert merged, "the smoke corpus holds near-duplicates"
    last = trace_document(smoke_run.store, merged[0]["id"], "full").steps[-1]
    assert last.node == "dedup" and last.facts["kept_id"] == merged[0]["kept_id"]


def test_an_unknown_document_is_a_mistake_in_one_line(smoke_run: Finished) -> None:
    with pytest.raises(UserError, match=r"no run in .* has kept 'https://nowhere\.example/'"):
        trace_document(smoke_run.store, "https://nowhere.example/")


def test_a_page_that_ingest_lost_is_told_with_its_reason(tmp_path: Path) -> None:
    rows = [{"text": "Some words that stay.", "url": "https://a.example/0"}, {"url": "https://a.example/1"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "store")
    store.prepare()
    walked = LocalRun(store)
    walked(INGEST, IngestConfig.model_validate({"source": str(tmp_path / "rows.jsonl")}))
    record_run(store, "dedup-only", walked.results)
    found = trace_document(store, "https://a.example/1")
    (step,) = found.steps
    assert (found.id, step.node, step.output, step.facts["reason"]) == ("", "ingest", "errors", "no_text")
    assert trace_document(store, "https://a.example/0").id
    with pytest.raises(UserError, match="nor listed it as lost"):
        trace_document(store, "https://a.example/2")
