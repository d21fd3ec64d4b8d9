"""The corpus stages as tasks."""

from pipelines.corpus.annotate import ANNOTATE
from pipelines.corpus.audit import AUDIT
from pipelines.corpus.decontaminate import DECONTAMINATE
from pipelines.corpus.dedup import DEDUP
from pipelines.corpus.drift import DRIFT
from pipelines.corpus.examples import EXAMPLES
from pipelines.corpus.filter import FILTER
from pipelines.corpus.ingest import INGEST
from pipelines.corpus.train_toxicity import TRAIN_TOXICITY
from pipelines.tokens.export_shards import EXPORT_SHARDS
from pipelines.tokens.shard import SHARD
from pipelines.tokens.tokenizer import TOKENIZER
from tasks.bridge import as_task

examples = as_task(EXAMPLES)
ingest = as_task(INGEST)
train_toxicity = as_task(TRAIN_TOXICITY)
annotate = as_task(ANNOTATE)
filter_documents = as_task(FILTER)
dedup = as_task(DEDUP)
decontaminate = as_task(DECONTAMINATE)
audit = as_task(AUDIT)
drift = as_task(DRIFT)
tokenizer = as_task(TOKENIZER)
shard = as_task(SHARD)
export_shards = as_task(EXPORT_SHARDS)
