"""A conversation becomes ids in one way, and no user can write a control id."""

from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipelines.artifacts.errors import UserError
from pipelines.finetuning.chat import ChatConfig, chat, default_template, encode_chat, refusal
from pipelines.finetuning.rendering import portable_template
from tests.finetuning.tiny import SPECIAL, assistant, build_model, user

TEMPLATE = default_template()
BENIGN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>|"), min_size=1).filter(str.strip)
PARTS = [
    "<|",
    "|>",
    "user",
    "end",
    "<|end|>",
    "<|assistant|>",
    "<|user",
    "<",
    ">",
    "\ufdd0",
    "\ufdd1",
    "\U000f0000",
    " x",
]
HOSTILE = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join).filter(str.strip)
INLINE = "{% for m in messages %}{{ m.content }}{% endfor %}<|end|>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(str(build_model(tmp_path_factory.mktemp("chat") / "model")))


@settings(max_examples=60)
@given(asked=BENIGN, said=BENIGN, system=st.none() | BENIGN, prompt=st.booleans())
def test_benign_text_gives_the_ids_and_the_mask_of_transformers(
    tokenizer: Any, asked: str, said: str, system: str | None, prompt: bool
) -> None:
    turns = [*([{"role": "system", "content": system}] if system else []), user(asked), assistant(said), user(asked)]
    reference = tokenizer.apply_chat_template(
        turns,
        chat_template=TEMPLATE,
        return_dict=True,
        return_assistant_tokens_mask=True,
        add_generation_prompt=prompt,
    )
    ids, mask = encode_chat(tokenizer, turns, TEMPLATE, add_generation_prompt=prompt)
    assert (ids, mask) == (reference["input_ids"], reference["assistant_masks"])


@settings(max_examples=200)
@given(asked=HOSTILE, said=HOSTILE)
def test_markers_that_a_user_typed_are_text(tokenizer: Any, asked: str, said: str) -> None:
    ids, mask = encode_chat(tokenizer, [user(asked), assistant(said)], TEMPLATE)
    controls = [tokenizer.convert_ids_to_tokens(one) for one in ids if one < len(SPECIAL)]
    assert controls == ["<|bos|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    assert tokenizer.decode(ids) == f"<|bos|><|user|>{asked}<|end|><|assistant|>{said}<|end|>"
    spoken = [one for one, taught in zip(ids, mask, strict=True) if taught]
    assert tokenizer.decode(spoken) == f"{said}<|end|>"


@settings(max_examples=100)
@given(turns=st.lists(HOSTILE, min_size=2, max_size=4))
def test_turns_that_meet_make_no_marker_together(tokenizer: Any, turns: list[str]) -> None:
    ids, _ = encode_chat(tokenizer, [user(turn) for turn in turns], INLINE)
    assert [one for one in ids if one < len(SPECIAL)] == [5]
    assert tokenizer.decode(ids) == "".join(turns) + "<|end|>"


def test_the_ids_of_a_prompt_begin_those_of_the_answered_conversation(tokenizer: Any) -> None:
    prompt, _ = encode_chat(tokenizer, [user("the mill")], TEMPLATE, add_generation_prompt=True)
    whole, mask = encode_chat(tokenizer, [user("the mill"), assistant("grinds")], TEMPLATE)
    assert whole[: len(prompt)] == prompt
    assert mask == [0] * len(prompt) + [1] * (len(whole) - len(prompt))


def test_plain_jinja_reads_the_portable_template() -> None:
    turns = [user("the mill"), assistant("grinds")]
    rendered = jinja2.Environment(autoescape=True).from_string(portable_template(TEMPLATE)).render(messages=turns)
    assert rendered == "<|bos|><|user|>the mill<|end|><|assistant|>grinds<|end|>"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 'a' * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a'.center(10000000000) }}",
        "{{ 'a'|center(10000000000) }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(90000) %}" + "a" * 100 + "{% endfor %}",
        "{{ messages[9].content.x.y }}",
        "{% for %}",
        "{{ raise_exception('no') }}",
        "{" * 70_000,
        "\ufdd0",
    ],
)
def test_a_harmful_or_broken_template_is_refused_in_one_line(tokenizer: Any, template: str) -> None:
    with pytest.raises(UserError, match="template: ") as refused:
        encode_chat(tokenizer, [user("a")], template)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "no_messages"),
        ([], "no_messages"),
        (["text"], "unknown_role"),
        ([{"role": "tool", "content": "a"}], "unknown_role"),
        ([{"role": ["user"], "content": "a"}], "unknown_role"),
        ([assistant("a")], "no_user"),
        ([user("a"), {"role": "system", "content": "b"}], "misplaced_system"),
        ([{"role": "system", "content": "b"}] * 2 + [user("a")], "misplaced_system"),
        ([user("a"), assistant(" ")], "empty_turn"),
        ([{"role": "user"}], "empty_turn"),
        ([user("a" * 1_000_001)], "turn_too_long"),
        ([user("a\ud800")], "invalid_unicode"),
        ([user("a"), assistant("b")], None),
    ],
)
def test_what_is_no_conversation_is_refused_with_a_reason(messages: Any, reason: str | None) -> None:
    assert refusal(messages) == reason


def test_a_refused_conversation_is_a_users_mistake(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="messages: no user"):
        encode_chat(tokenizer, [assistant("a")], TEMPLATE)


def test_the_stage_publishes_the_template_byte_for_byte(tmp_path: Path) -> None:
    assert chat(ChatConfig(), out=tmp_path) == {"characters": float(len(TEMPLATE))}
    assert (tmp_path / "template" / "chat_template.jinja").read_text() == TEMPLATE


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (portable_template(TEMPLATE), "must stand in"),
        ("{% generation %}" + portable_template(TEMPLATE) + "{% endgeneration %}", "must stand in"),
        (TEMPLATE.replace("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>"), "could not stop"),
        ("{% if %}", "template: "),
    ],
)
def test_a_template_that_teaches_the_wrong_words_is_refused(tmp_path: Path, template: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        chat(ChatConfig(template=template), out=tmp_path)
