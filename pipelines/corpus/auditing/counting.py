"""Audits documents part by part: what is counted, how parts are added up, and what is written."""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from datatrove.data import Document

from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import PROGRESS, atomic_file
from pipelines.corpus.audit import AuditConfig
from pipelines.corpus.auditing.frequent import Frequent
from pipelines.corpus.auditing.mentions import ANY, mentioned, read_lexicon
from pipelines.corpus.documents import parts, read_documents
from pipelines.corpus.shards import run_shards

COLUMNS = ("id", "text", "url", "crawl_time", "language")
UNKNOWN = "unknown"
FEWEST = 30
"""Documents from which the normal interval of a mean is taken, the usual rule of thumb."""
_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])(?!\d)")


@dataclass
class Tally:
    """Everything that is counted of some documents."""

    domains: Frequent
    documents: int = 0
    characters: int = 0
    searched: int = 0
    without_domain: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    language_characters: Counter[str] = field(default_factory=Counter)
    months: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    groups: dict[int, list[float]] = field(default_factory=dict)
    """By group: documents, mentions, and the sum and the sum of squares of the documents' mean sentiments."""

    def add(self, document: Document, window_words: int) -> None:
        """Count one document."""
        row, size = document.metadata, len(document.text)
        self.documents += 1
        self.characters += size
        self.lengths[size.bit_length()] += 1
        domain = domain_of(row.get("url") or "")
        if domain:
            self.domains.add(domain)
        else:
            self.without_domain += 1
        month = _MONTH.match(row.get("crawl_time") or "")
        self.months[month.group() if month else UNKNOWN] += 1
        language = row.get("language")
        if language is not None:
            self.languages[language] += 1
            self.language_characters[language] += size
        if language in (None, read_lexicon().language):
            self.searched += 1
            for group, (mentions, mean) in mentioned(document.text, window_words).items():
                self._add_group(group, [1, mentions, mean, mean * mean])

    def _add_group(self, group: int, values: list[float]) -> None:
        known = self.groups.get(group, [0, 0, 0.0, 0.0])
        self.groups[group] = [one + other for one, other in zip(known, values, strict=True)]

    def merge(self, other: "Tally") -> None:
        """Add the other's counts."""
        self.domains.merge(other.domains)
        for name in ("documents", "characters", "searched", "without_domain"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("languages", "language_characters", "months", "lengths"):
            getattr(self, name).update(getattr(other, name))
        for group, values in other.groups.items():
            self._add_group(group, values)

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON that `tally_of` reads."""
        return {name: value for name, value in vars(self).items() if name != "domains"} | {
            "domains": self.domains.as_json()
        }


def tally_of(held: dict[str, Any]) -> Tally:
    """Return what `as_json` wrote."""
    return Tally(
        Frequent(**held["domains"]),
        documents=held["documents"],
        characters=held["characters"],
        searched=held["searched"],
        without_domain=held["without_domain"],
        languages=Counter(held["languages"]),
        language_characters=Counter(held["language_characters"]),
        months=Counter(held["months"]),
        lengths=Counter({int(size): count for size, count in held["lengths"].items()}),
        groups={int(group): values for group, values in held["groups"].items()},
    )


def domain_of(url: str) -> str:
    """Return the host of a URL in lower case without `www.`, empty where it has none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.").rstrip(".")[:253]


@dataclass(frozen=True)
class Auditor:
    """Counts one part; picklable, so that parts can be counted side by side."""

    config: AuditConfig
    documents: Path
    out: Path

    def __call__(self, index: int) -> dict[str, int]:
        """Write the tally of part `index` and return how many documents it holds."""
        part = parts(self.documents)[index]
        held = set(pq.read_schema(part).names)
        tally = Tally(Frequent(self.config.max_domains))
        for document in read_documents(part, [name for name in COLUMNS if name in held]):
            tally.add(document, self.config.window_words)
        with atomic_file(tally_path(self.out, index), self.out) as fresh:
            fresh.write_text(json.dumps(tally.as_json()))
        return {"documents": tally.documents}


def tally_path(out: Path, index: int) -> Path:
    """Return where the tally of a part lies until all are added up."""
    return out / PROGRESS / "tallies" / f"tally-{index:05d}.json"


def audit_documents(config: AuditConfig, documents: Path, out: Path) -> Metrics:
    """Count every part of `documents`, add the parts up in order, and write `audit/audit.json` below `out`."""
    count = len(parts(documents))
    run_shards(Auditor(config, documents, out), count, out=out, workers=config.workers, what="audit")
    total = Tally(Frequent(config.max_domains))
    for index in range(count):
        total.merge(tally_of(json.loads(tally_path(out, index).read_text())))
    facts = facts_of(total, config)
    with atomic_file(out / "audit" / "audit.json", out) as fresh:
        fresh.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {
        "documents": float(total.documents),
        "languages": float(len(total.languages)),
        "domains": float(len(total.domains.counts)),
        "mentions": float(sum(values[1] for group, values in total.groups.items() if group >= 0)),
    }


def facts_of(total: Tally, config: AuditConfig) -> dict[str, Any]:
    """Return the audit as JSON: lists in the order in which a report shows them."""
    lexicon = read_lexicon()
    top = total.domains.top(config.top)
    return {
        "documents": total.documents,
        "characters": total.characters,
        "languages": [
            {"language": name, "documents": count, "characters": total.language_characters[name]}
            for name, count in sorted(total.languages.items(), key=lambda item: (-item[1], item[0]))
        ],
        "domains": {
            "top": [{"domain": name, "documents": count} for name, count in top],
            "counted": len(total.domains.counts),
            "undercounted_by_at_most": total.domains.lost,
            "documents_without": total.without_domain,
        },
        "dates": [{"month": month, "documents": count} for month, count in sorted(total.months.items())],
        "lengths": [
            {"from": 1 << size >> 1, "below": 1 << size, "documents": count}
            for size, count in sorted(total.lengths.items())
        ],
        "groups": {
            "documents_searched": total.searched,
            "window_words": config.window_words,
            "rows": [
                group_row(*lexicon.groups[place], total.groups[place]) for place in sorted(total.groups) if place >= 0
            ],
            "baseline": group_row("", ANY, total.groups.get(-1, [0, 0, 0.0, 0.0])),
        },
    }


def group_row(axis: str, group: str, values: list[float]) -> dict[str, Any]:
    """Return a group's counts, and its mean sentiment over documents with the normal interval of 95%.

    Documents are the units, since what one says of a group in several places is no independent evidence. Fewer than
    `FEWEST` have no interval: it would be too narrow.
    """
    documents, mentions, total, squares = values
    row: dict[str, Any] = {"axis": axis, "group": group, "documents": int(documents), "mentions": int(mentions)}
    if not documents:
        return row | {"sentiment": None, "low": None, "high": None}
    mean = total / documents
    if documents < FEWEST:
        return row | {"sentiment": round(mean, 4), "low": None, "high": None}
    variance = max(squares - documents * mean * mean, 0.0) / (documents - 1)
    half = 1.959964 * math.sqrt(variance / documents)
    return row | {
        "sentiment": round(mean, 4),
        "low": round(max(mean - half, -1), 4),
        "high": round(min(mean + half, 1), 4),
    }
