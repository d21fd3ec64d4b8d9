"""Reading plain text and Markdown: a file is a document.

The offset is 0 and the digest is that of the file's bytes. A file says neither its URL nor its time: both are empty.
"""

from pathlib import Path

from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of
from pipelines.corpus.readers.whole_file import is_binary, read_whole, text_of


def text_record(path: Path, limits: Limits) -> Record | Dropped:
    """Return the file's text, of whatever charset, with `\\n` at the ends of lines."""
    body = read_whole(path, limits.record)
    if isinstance(body, Dropped):
        return body
    if is_binary(body):
        return Dropped(0, "binary")
    return Record(offset=0, digest=digest_of(body), url="", crawl_time="", content=text_of(body), is_html=False)
