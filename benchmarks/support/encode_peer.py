"""The peer of `encode.py`, run in its own environment: datatrove's DocumentTokenizer from Parquet to its `.ds` file.

Arguments: the folder of documents, tokenizer.json, where the files go. The last line is JSON: CPU seconds and version.
"""

import json
import sys
import time
from importlib.metadata import version

from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from loguru import logger


def main(documents: str, tokenizer: str, out: str) -> None:
    """Encode the folder once, in the order of the documents."""
    logger.disable("datatrove")
    started = time.process_time()
    reader = ParquetReader(documents, glob_pattern="*.parquet")
    step = DocumentTokenizer(out, tokenizer_name_or_path=tokenizer, shuffle_documents=False, batch_size=1000)
    step.run(reader(), rank=0, world_size=1)
    print(json.dumps({"seconds": time.process_time() - started, "version": version("datatrove")}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
