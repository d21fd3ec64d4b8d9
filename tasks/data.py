"""The corpus stages as tasks."""

from pipelines.corpus.annotate import ANNOTATE
from pipelines.corpus.decontaminate import DECONTAMINATE
from pipelines.corpus.dedup import DEDUP
from pipelines.corpus.examples import EXAMPLES
from pipelines.corpus.filter import FILTER
from pipelines.corpus.ingest import INGEST
from pipelines.tokens.shard import SHARD
from pipelines.tokens.tokenizer import TOKENIZER
from tasks.bridge import as_task

examples = as_task(EXAMPLES, tags=("data",))
ingest = as_task(INGEST, tags=("data",))
annotate = as_task(ANNOTATE, tags=("data",))
filter_documents = as_task(FILTER, tags=("data",))
dedup = as_task(DEDUP, tags=("data",))
decontaminate = as_task(DECONTAMINATE, tags=("data",))
tokenizer = as_task(TOKENIZER, tags=("data",))
shard = as_task(SHARD, tags=("data",))
