"""Text read back from shards."""

from pipelines.evaluation.harness import load_tokenizer
from pipelines.evaluation.heldout import SplitText, vocabulary_bytes
from tests.evaluation.workbench import Workbench


def test_documents_come_back_from_shards_byte_for_byte(workbench: Workbench) -> None:
    split = SplitText(workbench.heldout, load_tokenizer(workbench.model))
    assert [split.text(span).decode() for span in split.spans] == workbench.heldout_texts
    assert sum(len(split.text(span)) for span in split.spans) == split.shards.bytes


def test_every_byte_has_a_token_and_special_tokens_have_no_bytes(workbench: Workbench) -> None:
    tokenizer = load_tokenizer(workbench.model)
    table = vocabulary_bytes(tokenizer)
    assert {bytes([byte]) for byte in range(256)} <= set(table)
    assert [table[place] for place in tokenizer.all_special_ids] == [b""] * len(tokenizer.all_special_ids)


def test_a_draw_holds_whole_documents_within_its_tokens_and_at_least_one(workbench: Workbench) -> None:
    split = SplitText(workbench.heldout, load_tokenizer(workbench.model))
    drawn = split.draw(500)
    assert 1 < len(drawn) < len(split.spans)
    assert sum(span.length for span in drawn) <= 500
    assert len(split.draw(1)) == 1
    assert drawn == split.draw(500)


def test_training_text_stops_at_its_bound(workbench: Workbench) -> None:
    split = SplitText(workbench.train, load_tokenizer(workbench.model))
    assert sum(map(len, split.texts(1_000))) == 1_000
    assert b"".join(split.texts(10**9)).decode() == "".join(workbench.train_texts)
