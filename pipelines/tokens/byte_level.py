"""The bytes behind the tokens of a byte-level vocabulary, which writes each byte as one printable character."""

from collections.abc import Mapping
from functools import cache


@cache
def byte_of_character() -> Mapping[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


def token_bytes(token: str) -> bytes:
    """Return the bytes of a byte-level token; one with a character outside the table stands for itself."""
    table = byte_of_character()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode()
