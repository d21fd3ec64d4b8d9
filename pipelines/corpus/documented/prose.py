"""Docstrings as prose: markup taken off, and the one sentence that says what an object is."""

import re

MARKUP = (
    ("]", re.compile(r"\[`+~?([^`\]]+)`+\](?:\([^)\s]*\))?"), r"\1"),  # [`Trainer`], [`Trainer`](url)
    ("](", re.compile(r"\[([^\[\]`]+)\]\([^)\s]*\)"), r"\1"),  # [text](url)
    (":`", re.compile(r":[A-Za-z][\w:+.-]*:`([^`<]+?)\s*<[^`>]*>`"), r"\1"),  # :ref:`text <target>`
    (":`~", re.compile(r":[A-Za-z][\w:+.-]*:`~[\w.]*?(\w+)`"), r"\1"),  # :class:`~package.Name`
    (":`", re.compile(r":[A-Za-z][\w:+.-]*:`[!~]?([^`]*)`"), r"\1"),  # :func:`name`
    ("``", re.compile(r"``(.+?)``", re.DOTALL), r"\1"),
    (">`_", re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{1,2}"), r"\1"),  # `text <url>`_
    ("`", re.compile(r"`([^`]+)`(?:_{1,2}(?!\w))?"), r"\1"),
    ("**", re.compile(r"\*\*([^*\s](?:[^*]*[^*\s])?)\*\*"), r"\1"),
    ("*", re.compile(r"(?<![\w*])\*([^*\s](?:[^*]*[^*\s])?)\*(?![\w*])"), r"\1"),
    ("\\", re.compile(r"(?<=\w)\\(?=s\b)|\\ "), ""),  # `Option`\s: an escape that ends the markup
    ("|", re.compile(r"(?<!\w)\|([\w .-]+)\|(?!\w)"), r"\1"),
)
"""Without this mark the pattern cannot match, which spares most texts most patterns; the pattern; what it keeps."""

SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\betc)(?<!\bet al)[.!?](?=\s+[^a-z\s]|\s*$)")
UNDERLINE = re.compile(r"[=\-~^*#+_\"'.:]{3,}\s*")
ASIDE = re.compile(r"\.\. |!!! |<|# ")
NO_PROSE = re.compile(r"(?::[a-z]\w*[ :]|>>>|[-*+] |@\w|\||\+-|\$ |[A-Z]\w*:\s*(?:\n|$))")
CALL = re.compile(r"[\w.]+ ?\(.*\)(?:\s*(?:->|:|=).*)?", re.DOTALL)
TEMPLATE = re.compile(r"%\(\w+\)|%[sd]\b|\{\w*\}|\$\{?\w+\}?")


def unmarked(text: str) -> str:
    """Return the text without reStructuredText and Markdown inline markup."""
    for mark, pattern, kept in MARKUP:
        if mark in text:
            text = pattern.sub(kept, text)
    return text


def plain(text: str) -> str:
    """Return the text without inline markup, on one line."""
    return " ".join(unmarked(text).split())


def summary(docstring: str) -> str:
    """Return the first sentence of the first paragraph of prose, or nothing where there is none."""
    for paragraph in re.split(r"\n\s*\n", docstring.strip())[:3]:
        lines = paragraph.splitlines()
        if any(UNDERLINE.fullmatch(line.strip()) for line in lines[:3]) or CALL.fullmatch(paragraph.strip()):
            continue  # a title or a signature that stands before the prose
        if ASIDE.match(paragraph.lstrip()):
            continue
        if NO_PROSE.match(paragraph.lstrip()):
            return ""
        text = plain(paragraph)
        end = SENTENCE_END.search(text)
        return text[: end.end()] if end else text
    return ""


def fault(sentence: str, min_words: int, max_chars: int) -> str:
    """Return why the sentence cannot stand as an answer, or nothing where it can."""
    words = [word for word in sentence.split() if any(char.isalnum() for char in word)]
    if not words:
        return "no_summary"
    if len(words) < min_words or len({word.casefold() for word in words}) < min(3, min_words):
        return "short_summary"
    if len(sentence) > max_chars:
        return "long_summary"
    if TEMPLATE.search(sentence):
        return "template"
    if sum(char.isalpha() or char == " " for char in sentence) < 0.8 * len(sentence) or sentence.endswith(":"):
        return "no_prose"
    return ""
