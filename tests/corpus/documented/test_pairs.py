"""Pairs and questions are of the kinds, lengths and balance that they promise."""

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.documented.objects import DocObject
from pipelines.corpus.documented.pairs import DAMAGES, damage, instructions, one_a_cluster, preferences, similar
from pipelines.corpus.documented.questions import few_shot, questions

WORDS = st.sampled_from(["return", "draw", "close", "open", "mean", "of", "the", "a", "page", "table", "quickly"])
SUMMARIES = st.lists(
    st.lists(WORDS, min_size=4, max_size=20).filter(lambda parts: len(set(parts)) >= 3).map(" ".join),
    unique=True,
    max_size=60,
)
SEEDS = st.integers(0, 2**32 - 1)


def made(summaries: list[str]) -> list[DocObject]:
    return [
        DocObject(
            id=f"{index:04d}",
            name=f"p{index % 3}.f{index}",
            kind="function",
            package=f"p{index % 3}",
            module=f"p{index % 3}",
            page=f"p{index % 3}",
            signature=f"f{index}(x)",
            summary=text,
            docstring=text,
            source_file="p.py",
            line=index,
        )
        for index, text in enumerate(summaries)
    ]


def said(messages: list[dict[str, str]]) -> str:
    assert [message["role"] for message in messages] == ["assistant"]
    return messages[0]["content"]


@settings(max_examples=50)
@given(SUMMARIES, SEEDS, st.integers(0, 70))
def test_half_of_the_pairs_are_exchanged_and_a_sixth_has_each_damage(
    summaries: list[str], seed: int, limit: int
) -> None:
    pairs = preferences(made(summaries), seed, limit)
    kinds = Counter(pair["kind"] for pair in pairs)
    assert len(pairs) <= limit
    assert kinds["other_object"] * 2 == len(pairs)
    assert {kinds[name] * 6 for name in DAMAGES} == {len(pairs)}
    assert len({pair["id"] for pair in pairs}) == len(pairs)


@settings(max_examples=50)
@given(SUMMARIES, SEEDS)
def test_a_rejected_answer_of_another_object_is_real_and_within_a_fifth(summaries: list[str], seed: int) -> None:
    pairs = [pair for pair in preferences(made(summaries), seed, 60) if pair["kind"] == "other_object"]
    for pair in pairs:
        chosen, rejected = said(pair["chosen"]), said(pair["rejected"])
        assert rejected in summaries
        assert abs(len(chosen) - len(rejected)) <= 0.2 * len(chosen)
    # Nothing but the question tells them apart: each text is once chosen and once rejected.
    assert Counter(said(pair["chosen"]) for pair in pairs) == Counter(said(pair["rejected"]) for pair in pairs)


@settings(max_examples=50)
@given(SUMMARIES, SEEDS)
def test_chosen_is_the_summary_and_never_the_rejected(summaries: list[str], seed: int) -> None:
    objects = {found.id: found for found in made(summaries)}
    for pair in preferences(list(objects.values()), seed, 60):
        assert said(pair["chosen"]) == objects[pair["id"]].summary != said(pair["rejected"])


@given(
    st.lists(WORDS, min_size=4, max_size=30).filter(lambda parts: len(set(parts)) >= 3),
    st.sampled_from(DAMAGES),
    st.integers(0, 2**64 - 1),
)
def test_a_damage_does_what_it_says(parts: list[str], kind: str, drawn: int) -> None:
    hurt = damage(" ".join(parts), kind, drawn).split()
    assert hurt != parts
    if kind == "cut":
        assert 1 <= len(hurt) <= 0.7 * len(parts)
        assert hurt == parts[: len(hurt)]
    elif kind == "repeated":
        assert len(hurt) > len(parts)
        assert set(hurt) == set(parts)
    else:
        assert Counter(hurt) == Counter(parts)


@settings(max_examples=50)
@given(SUMMARIES, SEEDS)
def test_questions_are_balanced_and_their_choices_alike(summaries: list[str], seed: int) -> None:
    objects = {found.id: found for found in made(summaries)}
    asked = questions(list(objects.values()), seed, 60)
    positions, right, wrong = Counter[int](), Counter[str](), Counter[str]()
    for row in asked:
        found = objects[row["id"]]
        assert len(set(row["choices"])) == 4
        assert row["choices"][row["answer"]] == found.summary
        assert row["subject"] == found.package
        assert found.name in row["question"]
        assert similar(min(row["choices"], key=len), max(row["choices"], key=len))
        positions[row["answer"]] += 1
        right[found.summary] += 1
        wrong.update(choice for choice in row["choices"] if choice != found.summary)
    assert len(set(positions.values())) <= 1
    assert all(wrong[text] == 3 * count for text, count in right.items())


def test_distractors_come_from_the_same_package_where_it_has_enough() -> None:
    objects = made([f"Return the thing number {index:04d} now." for index in range(48)])
    package = {found.summary: found.package for found in objects}
    for row in questions(objects, 1, 48):
        assert {package[choice] for choice in row["choices"]} == {row["subject"]}


def test_worked_examples_are_a_few_of_each_subject() -> None:
    asked = questions(made([f"Return the thing number {index:04d} now." for index in range(48)]), 1, 48)
    assert Counter(row["subject"] for row in few_shot(asked, 5)) == {"p0": 5, "p1": 5, "p2": 5}


def test_an_instruction_asks_about_the_object_in_several_wordings() -> None:
    objects = made([f"Return the thing number {index:04d} now." for index in range(60)])
    chats = instructions(objects, 1, 50)
    assert len(chats) == 50
    wordings = defaultdict[str, int](int)
    for chat, found in zip(chats, objects, strict=False):
        roles: list[Any] = [message["role"] for message in chat["messages"]]
        assert roles == ["user", "assistant"]
        asked = chat["messages"][0]["content"]
        assert found.name in asked or found.signature in asked
        assert chat["messages"][1]["content"] == found.summary
        wordings[asked.replace(found.name, "").replace(found.signature, "").replace(found.module, "")] += 1
    assert len(wordings) >= 4


def test_one_object_stands_for_its_cluster() -> None:
    objects = made([f"Return the thing number {index:04d} now." for index in range(30)])
    chosen = one_a_cluster(objects, [f"c{index % 7}" for index in range(30)], 1)
    assert sorted(int(found.id) % 7 for found in chosen) == list(range(7))
    assert chosen == one_a_cluster(objects[::-1], [f"c{index % 7}" for index in range(30)][::-1], 1)


@pytest.mark.parametrize("count", [0, 1, 3, 11])
def test_too_few_objects_make_no_unequal_parts(count: int) -> None:
    assert preferences(made([f"Return the thing number {index:04d} now." for index in range(count)]), 1, 60) == []
