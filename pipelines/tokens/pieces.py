"""How text is cut into pieces before any token is made, and the pieces into bytes."""

from tokenizers import Regex, pre_tokenizers

from pipelines.tokens.tokenizer import Whitespace

MAX_RUN = 64
"""Letters, marks or blanks in one piece: a run of millions without a break would keep the trainer busy for hours."""

LONGEST_PIECE = (1 + MAX_RUN) * 4 + MAX_RUN
"""Bytes of the longest piece: a blank and 64 characters of four bytes, then 64 line ends."""


def split_pattern(digits: int, whitespace: Whitespace = "runs") -> str:
    """Return how text is cut: as for GPT-4, with `digits` at most together and no run beyond 64.

    Every character is in some piece. A single blank still goes with the word or the marks after it.
    """
    run = f"{{1,{MAX_RUN}}}"
    marks = rf" ?[^\s\p{{L}}\p{{N}}]{run}"
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}{run}",
        rf"\p{{N}}{{1,{digits}}}",
    )
    blanks: dict[Whitespace, tuple[str, ...]] = {
        "runs": (
            rf"{marks}[\r\n]{{0,{MAX_RUN}}}",
            rf"\s{{0,{MAX_RUN}}}[\r\n]{run}",
            rf"\s{run}(?!\S)",
            rf"\s{run}",
        ),
        "single": (marks, r"\s"),
    }
    return "|".join((*words, *blanks[whitespace]))


def byte_pieces(digits: int, whitespace: Whitespace) -> pre_tokenizers.PreTokenizer:
    """Return the step that cuts a text and writes each byte of the pieces as one character."""
    split = pre_tokenizers.Split(Regex(split_pattern(digits, whitespace)), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, to_bytes])
