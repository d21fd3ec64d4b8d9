"""Writing the rows of a documents output that a stage keeps, part by part, as they are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.documents import ROWS_PER_GROUP, parts


def write_kept(source: Path, out: Path, keep: NDArray[np.bool_]) -> None:
    """Write to `out/documents` the rows of `source` that `keep` names, a part for a part and in the same order."""
    row = 0
    with meter("writing documents", total=len(keep), unit="documents") as counter:
        for part in parts(source):
            with (
                atomic_file(out / "documents" / part.name, out) as fresh,
                pq.ParquetFile(part) as file,
                pq.ParquetWriter(fresh, file.schema_arrow, compression="zstd") as writer,
            ):
                for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                    mask = keep[row : row + len(batch)]
                    row += len(batch)
                    if mask.any():
                        writer.write_batch(batch.filter(pa.array(mask)))
                    counter.advance(len(batch))
