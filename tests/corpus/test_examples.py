"""The stage writes split pairs and questions, from documentation or from a user's own rows."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.pins import FileRoot, PinCache
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import PROGRESS
from pipelines.corpus.documented.clusters import clusters
from pipelines.corpus.examples import EXAMPLES, DocsSource, ExamplesConfig, JsonlSource, examples

CLICK = ExamplesConfig(source=DocsSource(packages=("click",), test_fraction=0.2), heldout_fraction=0.2)

FILES = {
    "objects/objects.parquet",
    "instructions/train.jsonl",
    "instructions/heldout.jsonl",
    "preferences/train.jsonl",
    "preferences/heldout.jsonl",
    "questions/dev.jsonl",
    "questions/test.jsonl",
}


def digests(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and PROGRESS not in path.parts
    }


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Metrics]:
    """The stage's output and metrics for one small package."""
    out = tmp_path_factory.mktemp("examples")
    return out, examples(CLICK, out=out)


def test_every_object_is_kept_or_dropped_with_a_reason(built: tuple[Path, Metrics]) -> None:
    _, metrics = built
    dropped = sum(count for name, count in metrics.items() if name.startswith("dropped."))
    assert metrics["in"] == metrics["kept"] + dropped > 100
    assert metrics["kept"] == sum(count for name, count in metrics.items() if name.startswith("objects."))


def test_metrics_count_what_the_files_hold(built: tuple[Path, Metrics]) -> None:
    out, metrics = built
    assert set(digests(out)) == FILES
    for name in FILES - {"objects/objects.parquet"}:
        assert metrics[name.removesuffix(".jsonl").replace("/", ".")] == len(rows(out / name))
    kinds = Counter(row["kind"] for row in rows(out / "preferences" / "train.jsonl"))
    assert {name: metrics[f"preferences.train.{name}"] for name in kinds} == kinds


def test_no_object_and_no_near_equal_answer_is_in_two_splits(built: tuple[Path, Metrics]) -> None:
    out, _ = built
    answers = {
        split: [row["messages"][1]["content"] for row in rows(out / "instructions" / f"{split}.jsonl")]
        for split in ("train", "heldout")
    }
    answers["test"] = [row["choices"][row["answer"]] for row in rows(out / "questions" / "test.jsonl")]
    texts = [(split, text) for split, found in answers.items() for text in found]
    owners = clusters([text for _, text in texts], CLICK.near_equal)
    splits: dict[str, set[str]] = {}
    for (split, _), owner in zip(texts, owners, strict=True):
        splits.setdefault(owner, set()).add(split)
    assert [found for found in splits.values() if len(found) > 1] == []


def test_the_same_bytes_come_whatever_the_hash_seed(built: tuple[Path, Metrics], tmp_path: Path) -> None:
    out, metrics = built
    code = (
        "import json, sys; from pathlib import Path; from pipelines.corpus.examples import ExamplesConfig, examples;"
        "config = ExamplesConfig.model_validate_json(sys.argv[1]);"
        "print(json.dumps(examples(config, out=Path(sys.argv[2]))))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, CLICK.model_dump_json(), str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == metrics
    assert digests(tmp_path) == digests(out)


def test_a_cap_takes_whole_files_and_counts_those_beyond(tmp_path: Path) -> None:
    source = DocsSource(packages=("click", "rich"), max_objects_per_package=120, test_fraction=0.2)
    metrics = examples(CLICK.model_copy(update={"source": source}), out=tmp_path)
    assert 240 <= metrics["kept"] < 480
    assert metrics["files_beyond_cap"] > 0


def test_too_small_a_source_is_named_empty_with_its_funnel(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput, match=r"examples: .*in \d+, kept \d+.*questions\.test 0"):
        examples(ExamplesConfig(source=DocsSource(packages=("safetensors",))), out=tmp_path)


def distribution(folder: Path, source: str) -> None:
    """Make a package that is installed in `folder`."""
    (folder / "tinydoc").mkdir(exist_ok=True)
    (folder / "tinydoc" / "__init__.py").write_text(source)
    info = folder / "tinydoc-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinydoc\nVersion: 1.0\n")
    (info / "RECORD").write_text("tinydoc/__init__.py,,\ntinydoc/tests/test_x.py,,\n../../bin/tiny.py,,\n")


def test_an_edited_package_is_another_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution(tmp_path, '"""One module of words."""')
    config = ExamplesConfig(source=DocsSource(packages=("tinydoc",)))
    root = config.roots()["source.packages"]
    assert isinstance(root, FileRoot)
    assert list(root.files) == ["tinydoc:tinydoc/__init__.py"]
    before = root.pin(PinCache(tmp_path / "pins.json"))
    distribution(tmp_path, '"""Two module of words."""')
    assert config.roots()["source.packages"].pin(PinCache(tmp_path / "pins.json")) != before
    assert set(config.roots()) == {"source.packages", "source.interpreter"}


def test_a_missing_package_is_refused_when_planning() -> None:
    with pytest.raises(UserError, match="did you mean 'numpy'"):
        ExamplesConfig(source=DocsSource(packages=("nunpy",))).roots()


CHAT = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}
PAIR = {
    "prompt": [{"role": "user", "content": "Why?"}],
    "chosen": [{"role": "assistant", "content": "Because."}],
    "rejected": [{"role": "assistant", "content": "No."}],
}
ASKED = {"question": "Which?", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "letters"}


def turn(role: object, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


def own(folder: Path, instructions: list[object], preferences: list[object], questions: list[object]) -> ExamplesConfig:
    """Write the rows, a bytes value as it is, and return the config that reads them."""
    for name, values in (("instructions", instructions), ("preferences", preferences), ("questions", questions)):
        lines = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    paths = {name: folder / f"{name}.jsonl" for name in ("instructions", "preferences", "questions")}
    return ExamplesConfig(source=JsonlSource(**paths), heldout_fraction=0.3)


def good(count: int = 40) -> tuple[list[object], list[object], list[object]]:
    """Rows without a fault."""
    numbers = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(count)]
    return (
        [{"messages": [turn("user", f"q {text}"), turn("assistant", f"a {text}")]} for text in numbers],
        [{**PAIR, "chosen": [turn("assistant", f"a {text}")], "id": f"own/{text}"} for text in numbers],
        [{**ASKED, "question": f"Which {text}?"} for text in numbers],
    )


def test_own_rows_are_split_by_their_answers(tmp_path: Path) -> None:
    chats, pairs, asked = good()
    out = tmp_path / "out"
    metrics = examples(own(tmp_path, chats, pairs, asked), out=out)
    assert metrics["in"] == metrics["kept"] == 120
    assert set(digests(out)) == FILES - {"objects/objects.parquet"}
    assert metrics["preferences.train.given"] + metrics["preferences.heldout.given"] == 40
    for split in ("train", "heldout"):
        in_chats = {row["messages"][-1]["content"] for row in rows(out / "instructions" / f"{split}.jsonl")}
        in_pairs = {row["chosen"][0]["content"] for row in rows(out / "preferences" / f"{split}.jsonl")}
        assert in_chats == in_pairs
        assert all(row["id"].startswith("own/") for row in rows(out / "preferences" / f"{split}.jsonl"))
    assert metrics["questions.dev"] == 5
    assert metrics["questions.test"] == 35


BAD_CHATS = {
    "not_json": [b"{", b'{"messages": NaN}', b'"\xff"', b'{"a": "\\ud800"}', b"[" * 100_000],
    "blank": [b"  "],
    "long_line": [b'{"a": "' + b"x" * (5 << 20) + b'"}'],
    "not_an_object": [[1], 3, None, "text"],
    "messages": [{}, {"messages": "hi"}, {"messages": []}, {"messages": [3]}, {"messages": [turn(1, "x")]},
                 {"messages": [turn("user", None)]}],
    "role": [{"messages": [turn("user", "x"), turn("tool", "y")]}],
    "no_user": [{"messages": [turn("assistant", "x")]}],
    "two_systems": [{"messages": [turn("system", "a"), turn("system", "b"), turn("user", "c")]}],
    "turns": [{"messages": [turn("user", "a"), turn("user", "b")]},
              {"messages": [turn("user", "a"), turn("system", "s"), turn("assistant", "b")]}],
    "no_answer": [{"messages": [turn("user", "a")]}],
    "empty_messages": [{"messages": [turn("user", "a"), turn("assistant", " ")]}],
    "long_messages": [{"messages": [turn("user", "a" * 1_000_000), turn("assistant", "b")]}],
    "nul": [{"messages": [turn("user", "a\0b"), turn("assistant", "b")]}],
    "id": [{**CHAT, "id": 3}, {**CHAT, "id": "a\nb"}, {**CHAT, "id": "x" * 1000}],
}  # fmt: skip

BAD_PAIRS = {
    "equal_answers": [{**PAIR, "rejected": [turn("assistant", "Because. ")]}],
    "messages": [{**PAIR, "prompt": None}, {"chosen": PAIR["chosen"], "rejected": PAIR["rejected"]}],
    "prompt": [{**PAIR, "prompt": CHAT["messages"]}],
    "chosen": [{**PAIR, "chosen": "Because."}, {**PAIR, "chosen": [turn("user", "x")]}],
    "rejected": [{**PAIR, "rejected": []}],
    "kind": [{**PAIR, "kind": 7}],
}

BAD_QUESTIONS = {
    "question": [{**ASKED, "question": 4}],
    "empty_subject": [{**ASKED, "subject": ""}],
    "choices": [
        {**ASKED, "choices": []},
        {**ASKED, "choices": ["a", "b", "c", "c"]},
        {**ASKED, "choices": [1, 2, 3, 4]},
    ],
    "empty_choices": [{**ASKED, "choices": ["a", "b", "c", ""]}],
    "answer": [{**ASKED, "answer": 4}, {**ASKED, "answer": -1}, {**ASKED, "answer": True}, {**ASKED, "answer": "C"}],
}


def test_a_bad_row_is_dropped_with_its_reason(tmp_path: Path) -> None:
    bad = [
        (reason, row)
        for table in (BAD_CHATS, BAD_PAIRS, BAD_QUESTIONS)
        for reason, found in table.items()
        for row in found
    ]
    expected = Counter(reason for reason, _ in bad)
    chats, pairs, asked = good()
    config = own(
        tmp_path,
        [row for found in BAD_CHATS.values() for row in found] + chats + chats[:2],
        [row for found in BAD_PAIRS.values() for row in found] + pairs,
        [row for found in BAD_QUESTIONS.values() for row in found] + asked,
    )
    metrics = examples(config, out=tmp_path / "out")
    assert metrics["in"] == 120 + len(bad) + 2
    assert metrics["kept"] == 120
    dropped = {name.removeprefix("dropped."): count for name, count in metrics.items() if name.startswith("dropped.")}
    assert dropped == {**expected, "duplicate": 2}


def test_rows_beyond_the_bound_are_counted(tmp_path: Path) -> None:
    config = own(tmp_path, *good())
    bounded = config.model_copy(update={"source": config.source.model_copy(update={"max_rows": 30})})
    metrics = examples(bounded, out=tmp_path / "out")
    assert metrics["kept"] == 90
    assert metrics["dropped.beyond_max_rows"] == 30


def test_a_byte_order_mark_is_no_part_of_a_row(tmp_path: Path) -> None:
    chats, pairs, asked = good()
    marked = [b"\xef\xbb\xbf" + json.dumps(chats[0]).encode(), *chats[1:]]
    assert examples(own(tmp_path, list(marked), pairs, asked), out=tmp_path / "out")["kept"] == 120


def test_a_missing_file_of_ones_own_is_refused_when_planning(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.jsonl' does not exist"):
        ExamplesConfig(source=JsonlSource(instructions=tmp_path / "nothing.jsonl")).roots()


def test_a_kind_of_source_is_chosen_by_its_name() -> None:
    assert isinstance(ExamplesConfig.model_validate({"source": {"kind": "jsonl"}}).source, JsonlSource)
    assert EXAMPLES.config is ExamplesConfig
    assert "instructions" not in ExamplesConfig(source=JsonlSource()).identity()["source"]
