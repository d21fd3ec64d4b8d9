"""The peer of `extract.py`, run in its own environment: datatrove from WARC to text, with Trafilatura in its sandbox.

Arguments: the WARC file and where the texts go, as JSON by URL. The last line is JSON: CPU seconds and versions.
"""

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import trafilatura  # noqa: F401  # imported before the clock starts: the sandbox's child inherits it
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers import WarcReader
from loguru import logger


def main(path: Path, texts: Path) -> None:
    """Extract the file once."""
    logger.disable("datatrove")
    started = time.process_time()
    steps = Trafilatura(timeout=60).run(WarcReader(str(path.parent), glob_pattern=path.name)())  # 1 s of wall is load
    found = {document.metadata["url"]: document.text for document in steps}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() - started + children.ru_utime + children.ru_stime
    texts.write_text(json.dumps(found))
    versions = f"datatrove {version('datatrove')}, trafilatura {version('trafilatura')}, lxml {version('lxml')}"
    print(json.dumps({"seconds": seconds, "versions": versions}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
