"""The `audit` stage: what a corpus holds, by language, domain, date and length, and how it speaks of people."""

from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class AuditConfig(StageConfig):
    """How much is counted and listed."""

    model_config = ConfigDict(title="Corpus audit")
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})

    top: int = Field(50, ge=1, le=1_000, description="Domains that are listed, the commonest first.")
    max_domains: int = Field(
        10_000,
        ge=1_000,
        le=1_000_000,
        description="Domains that are counted at once, about 150 bytes each; counts are exact up to as many different.",
    )
    window_words: int = Field(
        10, ge=1, le=100, description="Words before and after a mention of a group that its sentiment is read from."
    )
    workers: int = Field(1, ge=1, le=1024, description="Processes that audit parts side by side.")


def audit(config: AuditConfig, *, documents: Path, out: Path) -> Metrics:
    """Write `audit/audit.json` and return how many documents, languages, domains and mentions of groups it counted.

    Languages are those that annotate found; a corpus without its scores has none. Groups are looked for in English
    documents, and in all where the language is not known. Which terms and words count is in `audit_lexicon.json`. Of
    the documents one part is in memory by row groups, of the counts `max_domains`, all languages and all months.
    """
    from pipelines.corpus.auditing.counting import audit_documents

    return audit_documents(config, documents, out)


AUDIT = Stage(
    "audit",
    version=1,
    run=audit,
    libraries=("datatrove", "pyarrow"),
    resumable=True,
    data=("corpus/auditing/audit_lexicon.json",),
)
