"""Conversations: the common layouts become one text with roles, anything else a counted reason."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.readers.conversations import conversation_records, has_turns
from pipelines.corpus.readers.records import Dropped, Record
from tests.corpus.sources_bench import LIMITS, shown

TOLD = "System: Be brief.\n\nUser: How deep is the river?\n\nAssistant: Two metres."
OPENAI = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "How deep is the river?"}]},
    {"role": "assistant", "content": " Two metres.\n"},
]
SHAREGPT = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "How deep is the river?"},
    {"from": "gpt", "value": "Two metres."},
]


def read(path: Path, *rows: object) -> list[Record | Dropped]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(conversation_records(path, "url", LIMITS))


def test_both_common_layouts_become_the_same_text(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", {"messages": OPENAI, "url": "http://a.example/"}, {"conversations": SHAREGPT})
    assert shown(rows) == [TOLD, TOLD]
    assert isinstance(rows[0], Record) and isinstance(rows[1], Record)
    assert rows[0].url == "http://a.example/"
    assert rows[0].offset == 0 < rows[1].offset


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "no turns"}, "no_turns"),
        ({"messages": "not a list"}, "no_turns"),
        ({"messages": []}, "empty"),
        ({"messages": ["said"]}, "bad_turn"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role"),
        ({"messages": [{"content": "x"}]}, "unknown_role"),
        ({"messages": [{"role": 1, "content": "x"}]}, "unknown_role"),
        ({"messages": [{"role": "user", "content": None}]}, "text_not_a_string"),
        ({"messages": [{"role": "user", "content": "  "}]}, "empty_turn"),
        ({"messages": [{"role": "user", "content": []}]}, "empty_turn"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not_only_text"),
        ({"messages": OPENAI[:2]}, "no_answer"),
        ([OPENAI], "not_an_object"),
    ],
)
def test_a_bad_conversation_is_counted_and_its_neighbours_kept(tmp_path: Path, row: object, reason: str) -> None:
    good = {"messages": OPENAI}
    assert shown(read(tmp_path / "a.jsonl", good, row, good)) == [TOLD, reason, TOLD]


def test_a_lone_surrogate_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a\\ud800b"}, {"role": "bot", "content": "c"}]}'
    )
    assert shown(list(conversation_records(tmp_path / "a.jsonl", "url", LIMITS))) == ["User: a\ufffdb\n\nAssistant: c"]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | (
    st.dictionaries(st.sampled_from(["role", "content", "from", "value", "messages", "conversations", "x"]), inner)
), max_leaves=20)  # fmt: skip


@given(JSON)
def test_whatever_the_row_is_it_is_a_record_or_a_reason(tmp_path_factory: pytest.TempPathFactory, row: object) -> None:
    has_turns(row)
    assert len(read(tmp_path_factory.getbasetemp() / "row.jsonl", row)) == 1
