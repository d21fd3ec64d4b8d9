"""XML of strangers: parsed without expanding entities or asking the network, and turned to text block by block."""

import re
from html.entities import html5

from lxml import etree

from pipelines.corpus.readers.http_page import decoded
from pipelines.corpus.readers.records import storable

LINE_BREAK = "\0"
"""Stands for a line break until spaces are made one; no XML can hold it."""


LIMIT = etree.ErrorTypes.ERR_RESOURCE_LIMIT
UNDECLARED = (etree.ErrorTypes.ERR_UNDECLARED_ENTITY, etree.ErrorTypes.WAR_UNDECLARED_ENTITY)
DECLARATION = re.compile(r"^\s*<\?xml[^>]*>")


class BadXml(Exception):
    """The bytes are no XML."""


class BeyondLimit(BadXml):
    """They nest deeper, expand further or hold more in one place than any document does."""


def parsed_xml(body: bytes, lenient: bool = False) -> etree._Element:
    """Return the root element; HTML's named characters are resolved, other entities are left out.

    libxml2 itself refuses 256 levels of nesting, text nodes over 10 MB and entities that expand beyond measure. Raises
    BadXml; a `lenient` reading makes what it can of bytes that are not well formed, but not of those beyond a limit.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    root = _parsed(body, parser)
    if not lenient and any(error.type not in UNDECLARED for error in parser.error_log.filter_from_fatals()):
        raise BadXml("not well formed")
    for parent in dict.fromkeys(entity.getparent() for entity in root.iter(etree.Entity)):
        if parent is not None:
            _resolve(parent)
    return root


def parsed_page(body: bytes) -> etree._Element:
    """Return the root of a page of XHTML, or of one that is called so and is HTML; raise BadXml where it is neither."""
    try:
        return parsed_xml(body)
    except BeyondLimit:
        raise
    except BadXml:
        text = DECLARATION.sub("", decoded(body, None))
        parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
        return _parsed(storable(text).encode(), parser)


def _parsed(body: bytes, parser: etree.XMLParser | etree.HTMLParser) -> etree._Element:
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadXml(str(error)) from None
    if any(error.type == LIMIT for error in parser.error_log):
        raise BeyondLimit("libxml2 stopped reading")
    if root is None:
        raise BadXml("no element")
    return root


def _resolve(parent: etree._Element) -> None:
    """Put text in the place of the entities below `parent`, each stretch of it once: a page may hold a million."""
    before: etree._Element | None = None
    pieces = [parent.text or ""]
    for child in list(parent):
        if isinstance(child, etree._Entity):
            pieces += html5.get(f"{child.name};", ""), child.tail or ""
            child.tail = None
            parent.remove(child)
        else:
            _set_text(parent, before, pieces)
            before, pieces = child, [child.tail or ""]
    _set_text(parent, before, pieces)


def _set_text(parent: etree._Element, before: etree._Element | None, pieces: list[str]) -> None:
    """Set the text after the child `before`, or before the first child where that is None."""
    text = "".join(pieces) or None
    if before is None:
        parent.text = text
    else:
        before.tail = text


def local(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return str(etree.QName(element).localname)


def block_text(
    root: etree._Element,
    *,
    blocks: frozenset[str],
    skipped: frozenset[str] = frozenset(),
    breaks: frozenset[str] = frozenset(),
    kept_as_is: frozenset[str] = frozenset(),
) -> str:
    """Return the text below `root`: an empty line between blocks, a line break at `breaks`, spaces made one.

    What is in `skipped` is left out; spaces and lines of `kept_as_is` stay as they are. Names are without namespace.
    """
    found = _Blocks()
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        name = local(element)
        if event == "start":
            if name in skipped:
                walk.skip_subtree()
                continue
            if name in blocks or name in kept_as_is:
                found.end_block()
            found.as_is += name in kept_as_is
            found.add(LINE_BREAK if name in breaks else "")
            found.add(element.text)
        else:
            if name not in skipped:
                if name in blocks or name in kept_as_is:
                    found.end_block()
                found.as_is -= name in kept_as_is
            if element is not root:
                found.add(element.tail)
    found.end_block()
    return "\n\n".join(found.whole)


class _Blocks:
    """The blocks that are whole and the text of the one that is open."""

    def __init__(self) -> None:
        self.whole: list[str] = []
        self.as_is = 0
        self._open: list[str] = []

    def add(self, text: str | None) -> None:
        """Add text to the open block."""
        if text:
            self._open.append(text)

    def end_block(self) -> None:
        """Close the open block, if it has any text."""
        text, self._open = "".join(self._open), []
        if self.as_is:
            text = text.replace(LINE_BREAK, "\n").strip("\n")
        else:
            text = "\n".join(" ".join(line.split()) for line in text.split(LINE_BREAK)).strip()
        if text.strip():
            self.whole.append(text)
