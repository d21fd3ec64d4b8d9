"""Whether a stretch of text is a web or e-mail address, which the splitter leaves whole."""

from pipelines.corpus.compiled import compiled
from pipelines.corpus.scoring.characters import DIGIT, HOST, LOWER, Points, Table
from pipelines.corpus.scoring.splitting import bits

_DOT, _HYPHEN, _SLASH, _COLON, _AT, _UNDERSCORE, _QUESTION, _HASH = (ord(character) for character in ".-/:@_?#")
LONGEST_LABEL = 64


@compiled
def is_address(points: Points, table: Table, start: int, end: int) -> bool:
    """Return whether the stretch is a host with an optional scheme, user, port and path."""
    dotted = False
    for place in range(start + 1, end - 1):
        if points[place] == _DOT:
            dotted = True
            break
    if not dotted:
        return False
    if _from_user(points, table, start, end):
        return True
    for place in range(start + 2, end - 3):
        if points[place] == _COLON:
            return (
                points[place + 1] == _SLASH
                and points[place + 2] == _SLASH
                and _from_user(points, table, place + 3, end)
            )
        if not bits(points[place], table) and points[place] != _DOT and points[place] != _HYPHEN:
            return False
    return False


@compiled
def _from_user(points: Points, table: Table, start: int, end: int) -> bool:
    if _from_host(points, table, start, end):
        return True
    for place in range(start + 1, end - 3):
        if points[place] == _AT and _from_host(points, table, place + 1, end):
            return True
    return False


@compiled
def _from_host(points: Points, table: Table, start: int, end: int) -> bool:
    """Return whether a host name or an IP address starts here and only a port and a path follow it."""
    place = label = start
    labels = 0
    numeric = True
    while place < end:
        point = points[place]
        if point == _DOT:
            if place == label or place - label > LONGEST_LABEL or not _edges(points, table, label, place):
                return False
            labels += 1
            label = place + 1
        elif not bits(point, table) & HOST and point != _HYPHEN and point != _UNDERSCORE:
            break
        elif not bits(point, table) & DIGIT:
            numeric = False
        place += 1
    if labels == 0 or not _is_tail(points, table, place, end):
        return False
    if numeric:
        return labels == 3 and 0 < place - label <= 3
    if place - label < 2 or place - label >= LONGEST_LABEL:
        return False
    for letter in range(label, place):  # noqa: SIM110 - numba compiles no generator
        if not bits(points[letter], table) & LOWER:
            return False
    return True


@compiled
def _edges(points: Points, table: Table, start: int, end: int) -> bool:
    """Return whether a label begins and ends as a label of a host name may."""
    return bool(bits(points[start], table) & HOST and bits(points[end - 1], table) & HOST)


@compiled
def _is_tail(points: Points, table: Table, start: int, end: int) -> bool:
    """Return whether from here to the end there is at most a port and a path."""
    place = start
    if place < end and points[place] == _COLON:
        place += 1
        while place < end and bits(points[place], table) & DIGIT:
            place += 1
        if not 2 <= place - start - 1 <= 5:
            return False
    return place == end or points[place] == _SLASH or points[place] == _QUESTION or points[place] == _HASH
