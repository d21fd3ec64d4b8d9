import io
import json
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.pins import PinCache
from pipelines.corpus.decontaminate import DecontaminateConfig, decontaminate
from pipelines.corpus.documents import PROVENANCE, document_id, part_name, read_documents, write_documents

VOCABULARY = [f"word{number}" for number in range(2_000)]
CLEAN = "a clean document about nothing that any benchmark has ever asked anybody in any of its many questions"


def prose(seed: int, length: int) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def question(number: int, length: int = 20) -> dict[str, Any]:
    """One of our own questions: a template and an object, with summaries as choices."""
    return {
        "id": f"object{number}",
        "question": f"Which of these describes the function module.name{number}?",
        "choices": [prose(10 * number + choice, length) for choice in range(4)],
        "answer": number % 4,
        "subject": "module",
    }


def write(folder: Path, texts: Sequence[str]) -> Path:
    documents = [
        Document(
            text=text,
            id=document_id("sha256:0", number),
            metadata={"url": f"https://example.org/{number}", "record_offset": 0, "source_uri": "a.warc"},
        )
        for number, text in enumerate(texts)
    ]
    write_documents(folder / part_name(0), folder, PROVENANCE, documents)
    return folder


def write_questions(folder: Path, rows: Sequence[dict[str, Any]], name: str = "test") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(
    folder: Path, texts: Sequence[str], questions: Sequence[dict[str, Any]] | None = None, **settings: Any
) -> dict[str, float]:
    documents = write(folder / "in", texts)
    asked = None if questions is None else write_questions(folder / "questions", questions)
    return decontaminate(DecontaminateConfig(**settings), documents=documents, questions=asked, out=folder / "out")


def kept(folder: Path) -> list[str]:
    return [document.text for document in read_documents(folder / "out" / "documents")]


def hits(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "out" / "dropped" / "hits.parquet").to_pylist())


def leaks(row: dict[str, Any]) -> list[str]:
    """The ways in which a page may hold an item."""
    asked, choices = row["question"], row["choices"]
    answer = choices[row["answer"]]
    lettered = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", choices, strict=True))
    return [
        answer,
        f"{asked}\n{answer}",
        f"{asked}\n{lettered}\nAnswer: {'ABCD'[row['answer']]}",
        f"{asked} {' '.join(choices)}",
        answer.upper().replace(" ", ",  "),
        json.dumps(row),
    ]


@pytest.mark.parametrize("length", [8, 12, 13, 40])
def test_every_planted_leak_is_dropped_and_nothing_else(tmp_path: Path, length: int) -> None:
    rows = [question(number, length) for number in range(1, 41)]
    planted = [
        f"{prose(-number, 50)}\n{leak}\n{prose(number, 50)}" for number, row in enumerate(rows) for leak in leaks(row)
    ]
    clean = [prose(10_000 + number, 200) for number in range(50)]
    metrics = run(tmp_path, planted + clean, rows)
    assert kept(tmp_path) == clean
    assert metrics["in"] == metrics["kept"] + metrics["dropped.contaminated"] == len(planted) + len(clean)
    assert metrics["items.questions"] == metrics["items_hit.questions"] == metrics["items"] == 40
    assert metrics["documents_hit.questions"] == len(planted)


def test_a_short_answer_is_found_with_its_question(tmp_path: Path) -> None:
    row = question(1, length=4)
    with_question = f"{row['question']} {row['choices'][row['answer']]} {CLEAN}"
    alone = f"{row['choices'][row['answer']]} {CLEAN}"
    run(tmp_path, [with_question, alone], [row])
    assert kept(tmp_path) == [alone]


def test_a_hit_names_document_benchmark_item_and_ngram(tmp_path: Path) -> None:
    row = question(7)
    answer = row["choices"][row["answer"]]
    run(tmp_path, [CLEAN, f"{CLEAN} {answer}"], [row])
    assert hits(tmp_path) == [
        {
            "id": document_id("sha256:0", 1),
            "url": "https://example.org/1",
            "benchmark": "questions",
            "item": "test/object7",
            "kind": "exact",
            "share": 1.0,
            "passage": " ".join(answer.split()[:13]),
            "context": " ".join([*CLEAN.split()[-12:], f"[{' '.join(answer.split()[:13])}]", *answer.split()[13:]]),
        }
    ]


def test_a_wrong_choice_alone_convicts_nobody(tmp_path: Path) -> None:
    row = question(3)
    wrong = [text for place, text in enumerate(row["choices"]) if place != row["answer"]]
    metrics = run(tmp_path, wrong, [row])
    assert (metrics["kept"], metrics["dropped.contaminated"]) == (3, 0)


def test_the_template_of_a_benchmark_convicts_nobody(tmp_path: Path) -> None:
    template = "The following is a question of the examination in the year two thousand and twenty about"
    rows = [{**question(number), "question": f"{template} {prose(number, 9)}"} for number in range(30)]
    texts = [f"{template} nothing at all {CLEAN}", f"{CLEAN} {rows[3]['question']}"]
    run(tmp_path, texts, rows)
    assert kept(tmp_path) == texts[:1]


def test_an_item_of_template_only_is_counted_as_not_searched(tmp_path: Path) -> None:
    rows = [{"id": number, "question": "Is it so?", "choices": ["yes", "no"], "answer": 0} for number in range(5)]
    metrics = run(tmp_path, [CLEAN, "Is it so? yes"], rows)
    assert metrics["items_unsearched.questions"] == 5
    assert metrics["kept"] == 2


def test_twelve_words_of_a_long_item_convict_nobody(tmp_path: Path) -> None:
    answer = prose(1, 30)
    row = {"id": "x", "question": "?", "choices": [answer, "no"], "answer": 0}
    twelve, thirteen = (" ".join(answer.split()[5 : 5 + count]) for count in (12, 13))
    run(tmp_path, [f"{CLEAN} {twelve} end", f"{CLEAN} {thirteen} end"], [row])
    assert kept(tmp_path) == [f"{CLEAN} {twelve} end"]
    (hit,) = hits(tmp_path)
    assert hit["passage"] == thirteen


def test_the_length_of_an_ngram_is_a_setting(tmp_path: Path) -> None:
    answer = prose(1, 30)
    row = {"id": "x", "question": "?", "choices": [answer, "no"], "answer": 0}
    metrics = run(tmp_path, [CLEAN, " ".join(answer.split()[5:11])], [row], ngram_words=6)
    assert metrics["dropped.contaminated"] == 1


def test_worked_examples_are_looked_for_too(tmp_path: Path) -> None:
    asked = write_questions(tmp_path / "questions", [question(1)], "dev")
    documents = write(tmp_path / "in", [CLEAN, question(1)["choices"][1]])
    metrics = decontaminate(DecontaminateConfig(), documents=documents, questions=asked, out=tmp_path / "out")
    assert metrics["dropped.contaminated"] == 1
    assert hits(tmp_path)[0]["item"] == "dev/object1"


def write_mirror(folder: Path) -> Path:
    tables = {
        "cais/mmlu/anatomy/test-00000-of-00001.parquet": [
            {"question": prose(1, 30), "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}
        ],
        "allenai/ai2_arc/ARC-Easy/test.parquet": [
            {
                "id": "M1",
                "question": prose(2, 30),
                "choices": {"text": [prose(3, 14), "other"], "label": ["1", "2"]},
                "answerKey": "1",
            }
        ],
        "nyu-mll/blimp/adjunct/train.parquet": [{"sentence_good": prose(4, 20), "sentence_bad": prose(5, 20)}],
        "EleutherAI/wikitext/train.parquet": [{"page": prose(7, 300)}],
        "EleutherAI/wikitext/test.parquet": [{"page": prose(6, 300)}],
    }
    for name, rows in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder


def test_every_benchmark_of_a_mirror_is_looked_for_and_counted(tmp_path: Path) -> None:
    mirror = write_mirror(tmp_path / "mirror")
    texts = [prose(1, 30), prose(3, 14), prose(4, 20), prose(6, 300)[900:1200], prose(7, 300)[900:1200], CLEAN]
    metrics = run(tmp_path, texts, mirror=mirror)
    assert kept(tmp_path) == [prose(7, 300)[900:1200], CLEAN], "models may be trained on a training split"
    assert {(hit["benchmark"], hit["item"]) for hit in hits(tmp_path)} == {
        ("cais/mmlu", "anatomy/test-00000-of-00001/0"),
        ("allenai/ai2_arc", "ARC-Easy/test/M1"),
        ("nyu-mll/blimp", "adjunct/train/0"),
        ("EleutherAI/wikitext", "test/0"),
    }
    sets = ("cais/mmlu", "allenai/ai2_arc", "nyu-mll/blimp", "EleutherAI/wikitext")
    assert [metrics[f"documents_hit.{name}"] for name in sets] == [1] * 4


def test_the_mirror_enters_the_key_by_its_content(tmp_path: Path) -> None:
    config = DecontaminateConfig(mirror=write_mirror(tmp_path / "mirror"))
    moved = DecontaminateConfig(mirror=write_mirror(tmp_path / "moved"))
    pins = PinCache(tmp_path / "pins.json")
    assert config.identity() == moved.identity() == DecontaminateConfig().identity()
    assert config.roots()["mirror"].pin(pins) == moved.roots()["mirror"].pin(pins)
    pq.write_table(pa.table({"page": [prose(9, 30)]}), tmp_path / "moved" / "EleutherAI" / "wikitext" / "test.parquet")
    assert config.roots()["mirror"].pin(pins) != moved.roots()["mirror"].pin(pins)


def test_without_any_evaluation_set_all_is_kept_and_none_is_counted(tmp_path: Path) -> None:
    metrics = run(tmp_path, [CLEAN])
    assert (metrics["kept"], metrics["items"]) == (1, 0)
    assert hits(tmp_path) == []


def test_a_corpus_of_leaks_is_an_empty_output(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput, match="contaminated 1"):
        run(tmp_path, [question(1)["choices"][1]], [question(1)])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**question(1), "answer": 7}, "answer 7 is none of 4 choices"),
        ({**question(1), "answer": -1}, "answer -1 is none of 4 choices"),
        ({**question(1), "choices": []}, "none of 0 choices"),
        ({"question": "why?", "choices": ["a"]}, "answerKey"),
        ([], "list"),
    ],
)
def test_a_damaged_item_is_named(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(UserError, match=rf"questions: row 1 of test\.jsonl cannot be read .*{reason}"):
        run(tmp_path, [CLEAN], [question(2), row])


def test_a_damaged_file_of_the_mirror_is_named(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "owner" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "owner" / "set" / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"owner/set: row 0 of owner/set/test\.parquet cannot be read"):
        run(tmp_path, [CLEAN], mirror=tmp_path / "mirror")


def test_planted_questions_of_mmlu_are_all_found(tmp_path: Path, shared_data: Path) -> None:
    import csv

    rows = []
    with tarfile.open(shared_data / "benchmarks" / "mmlu-dev-val.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith("_val.csv") else None
            for asked, *choices, answer in csv.reader(io.TextIOWrapper(file, "utf-8")) if file else ():
                rows.append({"question": asked, "choices": choices, "answer": answer})
    sample = random.Random(0).sample(rows, 300)
    shown = [
        "\n".join([str(row["question"]), *map(". ".join, zip("ABCD", row["choices"], strict=True))]) for row in sample
    ]
    metrics = run(tmp_path, [*(f"{CLEAN}\n{text}" for text in shown), CLEAN], rows)
    assert kept(tmp_path) == [CLEAN]
    assert metrics["items_unsearched.questions"] == 0


def test_a_set_whose_only_split_is_called_train_is_searched_for(tmp_path: Path) -> None:
    from pipelines.corpus.items import read_items

    row = '{"sentence": "a sentence of the benchmark that is long enough to be looked for"}\n'
    for name in ("blimp/adjunct/train.jsonl", "mmlu/train-0.jsonl", "mmlu/test-0.jsonl", "constraints/test.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(row)
    found = {item.name for item in read_items({}, tmp_path)}
    assert len(found) == 3 and not any("train-0" in name for name in found)


def edited(text: str, share: float, drawn: random.Random) -> str:
    """Change a share of the words: most for another, some away, some with one more."""
    out: list[str] = []
    for word in text.split():
        fate = drawn.random() / share
        if fate >= 0.8:
            out.append(word)
        if fate < 0.6 or 0.8 <= fate < 1:
            out.append(drawn.choice(VOCABULARY))
    return " ".join(out)


KINDS = {
    "exact": lambda text, drawn: text,
    "re-cased": lambda text, drawn: text.title(),
    "re-punctuated": lambda text, drawn: ", ".join(text.split()).replace(" word1", "; --word1"),
    "5% edited": lambda text, drawn: edited(text, 0.05, drawn),
    "10% edited": lambda text, drawn: edited(text, 0.1, drawn),
    "20% edited": lambda text, drawn: edited(text, 0.2, drawn),
}
LEAST_RECALL = {"5% edited": 0.99, "10% edited": 0.95, "20% edited": 0.8}


@pytest.mark.parametrize("around", [0, 2_000])
def test_the_recall_of_planted_leaks_by_kind(tmp_path: Path, around: int) -> None:
    rows = [{"id": n, "question": prose(n, 40), "choices": [prose(500 + n, 5), "b"], "answer": 0} for n in range(60)]
    drawn = random.Random(5)
    planted = [(kind, change(row["question"], drawn)) for kind, change in KINDS.items() for row in rows]
    texts = [f"{prose(n, around)} {text} {prose(n + 5_000, around)}" for n, (_, text) in enumerate(planted, 1_000)]
    clean = [prose(n, 400) for n in range(90_000, 90_040)]
    metrics = run(tmp_path, texts + clean, rows)
    left = set(kept(tmp_path))
    assert set(clean) <= left
    found = {
        kind: sum(text not in left for (of, _), text in zip(planted, texts, strict=True) if of == kind) / len(rows)
        for kind in KINDS
    }
    assert all(found[kind] >= LEAST_RECALL.get(kind, 1) for kind in KINDS), str(found)
    assert metrics["documents_near.questions"] > 0
    assert metrics["documents_near.questions"] == len({hit["id"] for hit in hits(tmp_path) if hit["kind"] == "near"})


def test_an_edited_copy_tells_how_much_of_the_item_it_holds_and_shows_it_in_bounds(tmp_path: Path) -> None:
    asked = prose(1, 90).split()
    row = {"id": "x", "question": " ".join(asked), "choices": ["a", "b"], "answer": 0}
    copy = [word if place % 10 else "other" for place, word in enumerate(asked)]
    run(tmp_path, [f"{CLEAN} {' '.join(copy)} {CLEAN}", CLEAN], [row])
    (hit,) = hits(tmp_path)
    assert (hit["kind"], hit["benchmark"], hit["item"]) == ("near", "questions", "test/x")
    # Nine changed words of ninety cost three of the 88 trigrams each, the first one only one.
    assert hit["share"] == pytest.approx(63 / 88, abs=0.02)
    assert len(hit["passage"]) <= 240
    assert f"[{hit['passage']}]" in hit["context"]
    assert len(hit["context"]) <= 3 * 240 + 4


def test_half_of_an_item_scattered_over_a_document_convicts_nobody(tmp_path: Path) -> None:
    asked = prose(1, 40).split()
    row = {"id": "x", "question": " ".join(asked), "choices": ["a", "b"], "answer": 0}
    scattered = " ".join(" ".join(asked[start : start + 5]) + " " + prose(start + 50, 20) for start in range(0, 40, 5))
    run(tmp_path, [scattered], [row])
    assert kept(tmp_path) == [scattered]


def test_the_share_is_a_setting_and_one_looks_for_nothing_edited(tmp_path: Path) -> None:
    asked = prose(1, 60)
    row = {"id": "x", "question": asked, "choices": ["a", "b"], "answer": 0}
    text = " ".join(word if place % 8 else "other" for place, word in enumerate(asked.split()))
    for share, dropped in ((0.5, 1), (0.9, 0), (1, 0)):
        metrics = run(tmp_path / str(share), [CLEAN, text], [row], near_share=share)
        assert metrics["dropped.contaminated"] == dropped, share


def test_phrases_of_many_items_make_no_edited_copy(tmp_path: Path) -> None:
    phrases = [prose(900 + number, 10) for number in range(3)]
    rows = [
        {"id": n, "question": f"{phrases[0]} {prose(n, 6)} {phrases[1]} {prose(n + 400, 6)} {phrases[2]}", "answer": 0}
        | {"choices": ["a", "b"]}
        for n in range(1, 31)
    ]
    text = f"{phrases[0]} {prose(700, 6)} {phrases[1]} {prose(701, 6)} {phrases[2]}"
    run(tmp_path, [text], rows)
    assert kept(tmp_path) == [text]


def test_held_out_chats_and_preferences_are_looked_for_and_training_ones_are_not(tmp_path: Path) -> None:
    def chat(seed: int) -> dict[str, Any]:
        return {"id": str(seed), "messages": [{"role": "user", "content": "why?"}, said(seed)]}

    def said(seed: int) -> dict[str, str]:
        return {"role": "assistant", "content": prose(seed, 20)}

    def pair(seed: int) -> dict[str, Any]:
        asked = [{"role": "user", "content": "why?"}]
        return {"id": str(seed), "prompt": asked, "chosen": [said(seed)], "rejected": [said(seed + 50)], "kind": "x"}

    for name, rows in (("train", [chat(1)]), ("heldout", [chat(2)])):
        instructions = write_questions(tmp_path / "instructions", rows, name)
    for name, rows in (("train", [pair(3)]), ("heldout", [pair(4)])):
        preferences = write_questions(tmp_path / "preferences", rows, name)
    texts = [prose(seed, 20) for seed in (1, 2, 3, 4, 54)]
    metrics = decontaminate(
        DecontaminateConfig(),
        documents=write(tmp_path / "in", texts),
        instructions=instructions,
        preferences=preferences,
        out=tmp_path / "out",
    )
    assert kept(tmp_path) == [texts[0], texts[2], texts[4]], "a rejected answer is no item"
    assert metrics["documents_hit.instructions"] == metrics["documents_hit.preferences"] == 1


def test_the_bytes_are_the_same_at_any_number_of_workers(tmp_path: Path) -> None:
    rows = [question(number) for number in range(20)]
    asked = write_questions(tmp_path / "questions", rows)
    texts = [f"{prose(5_000 + n, 30)} {rows[n % 20]['choices'][(n + n // 20) % 4]}" for n in range(60)]
    folder = tmp_path / "in"
    for index in range(3):
        documents = [
            Document(text=text, id=f"{index}-{place}", metadata={"url": None})
            for place, text in enumerate(texts[index * 20 : index * 20 + 20])
        ]
        write_documents(folder / part_name(index), tmp_path / "work", PROVENANCE, documents)
    written = []
    for workers in (1, 2, 4):
        out = tmp_path / str(workers)
        metrics = decontaminate(DecontaminateConfig(workers=workers), documents=folder, questions=asked, out=out)
        assert metrics["in"] == 60
        files = sorted(path for name in ("documents", "dropped") for path in (out / name).iterdir())
        written.append([path.read_bytes() for path in files])
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("name", ["openbook_qa", "piqa", "arc_challenge"])
def test_real_sets_in_the_form_of_query_and_choices_are_read(shared_data: Path, tmp_path: Path, name: str) -> None:
    import lzma

    from pipelines.corpus.items import read_items

    text = lzma.decompress((shared_data / "benchmarks" / f"{name}.jsonl.xz").read_bytes()).decode()
    (tmp_path / f"{name}.jsonl").write_text(text)
    items = list(read_items({}, tmp_path))
    assert len(items) == len(text.splitlines())
    assert all(len(item.own) == 3 and item.joined and item.wrong for item in items)
