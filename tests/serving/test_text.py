"""Text as it grows: whole characters, and stop strings cut wherever they fall."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.text import TextStream
from pipelines.tokens.byte_level import byte_of_character, token_bytes

BYTES = [bytes([byte]) for byte in range(256)]


def _stream(text: str, stops: tuple[str, ...] = ()) -> list[str]:
    """Return what comes out for every byte of the text, and at the end."""
    stream = TextStream(BYTES, stops)
    pieces = []
    for byte in text.encode():
        pieces.append(stream.push(byte))
        if stream.stopped:
            break
    return [*pieces, stream.finish()]


@given(st.text())
def test_text_that_comes_byte_by_byte_never_shows_half_a_character(text: str) -> None:
    assert "".join(_stream(text)) == text
    assert all("\ufffd" not in piece for piece in _stream(text) if "\ufffd" not in text)


@given(st.text(alphabet="abc"), st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4))
def test_no_stop_string_is_ever_given_out_and_nothing_else_is_lost(text: str, stops: list[str]) -> None:
    out = "".join(_stream(text, tuple(stops)))
    assert all(stop not in out for stop in stops)
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert out == text
    else:
        seen = text[: min(ends)]
        assert out == seen[: min(seen.index(stop) for stop in stops if stop in seen)]


def test_a_tail_that_may_begin_a_stop_string_waits_for_the_next_token() -> None:
    assert _stream("abSTOx", ("STOP",)) == ["a", "b", "", "", "", "STOx", ""]


def test_half_a_character_at_the_end_is_dropped() -> None:
    stream = TextStream(BYTES)
    assert [stream.push(byte) for byte in "é".encode()[:1]] == [""]
    assert stream.finish() == ""


def test_every_byte_has_its_character() -> None:
    assert sorted(byte_of_character().values()) == list(range(256))
    assert token_bytes("Ġmill") == b" mill"
