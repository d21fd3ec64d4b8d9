"""The `examples` stage: objects for the corpus, instruction pairs, preference pairs and questions, split for good."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.pins import FileRoot, NamedRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.corpus.documented.packages import interpreter, package_files


class DocsSource(StageConfig):
    """The documentation of installed packages, read from their source."""

    model_config = ConfigDict(title="Docs of packages")

    kind: Literal["docs"] = Field("docs", description="Read the docstrings of installed packages.")
    packages: tuple[str, ...] = Field(
        ("click", "pydantic", "rich"),
        min_length=1,
        description="Names of installed distributions; 'python' is the standard library.",
    )
    max_objects_per_package: int = Field(
        20_000,
        ge=1,
        description="Files of a package are read, in a seeded order, until they have given this many objects.",
    )
    min_summary_words: int = Field(4, ge=3, le=50, description="Objects whose summary has fewer words are left out.")
    max_summary_chars: int = Field(240, ge=40, le=2000, description="Objects with a longer summary are left out.")
    test_fraction: float = Field(
        0.06, gt=0, lt=0.5, description="Share of the clusters kept for the multiple-choice test alone."
    )
    instructions: int = Field(20_000, ge=1, description="Instruction pairs for training at most.")
    preferences: int = Field(6_000, ge=12, description="Preference pairs for training at most.")
    heldout_pairs: int = Field(
        600, ge=12, description="Held-out instruction pairs at most, and held-out preference pairs at most."
    )
    questions: int = Field(400, ge=4, description="Test questions at most.")

    def roots(self) -> Mapping[str, Root]:
        """Return every source file that the packages' lists of files name, and the interpreter that parses them."""
        found = package_files(self.packages)
        files = {f"{package}:{name}": path for package, group in found.items() for name, path in group.items()}
        return {"packages": FileRoot(files, "examples.source.packages"), "interpreter": NamedRoot(interpreter())}


class JsonlSource(StageConfig):
    """Pairs and questions of your own, as JSON lines."""

    model_config = ConfigDict(title="JSONL of your own")
    pinned: ClassVar[frozenset[str]] = frozenset({"instructions", "preferences", "questions"})

    kind: Literal["jsonl"] = Field("jsonl", description="Read JSONL files: a file each, or a folder or glob of them.")
    instructions: Path = Field(
        Path("instructions.jsonl"),
        description='A chat a line: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content":'
        ' "…"}]}; a system message may come first, user and assistant take turns, the assistant has the last word.',
    )
    preferences: Path = Field(
        Path("preferences.jsonl"),
        description='A pair a line: {"prompt": [messages up to the user\'s], "chosen": [{"role": "assistant",'
        ' "content": "…"}], "rejected": [the same, with another content]}; an optional "kind" groups the figures.',
    )
    questions: Path = Field(
        Path("questions.jsonl"),
        description='A question a line: {"question": "…", "choices": [four different texts], "answer": 0 to 3,'
        ' "subject": "…"}.',
    )
    max_rows: int = Field(
        100_000, ge=1, description="Rows of each kind that are used; those after are counted as dropped."
    )
    max_turn_chars: int = Field(32_000, ge=1, le=1_000_000, description="Rows with a longer message are dropped.")

    def roots(self) -> Mapping[str, Root]:
        """Return the files by what they hold."""
        return {name: FileRoot(self.files(name), f"examples.source.{name}") for name in sorted(self.pinned)}

    def files(self, name: str) -> dict[str, Path]:
        """Return the files of one kind of rows; raise UserError when there is none."""
        return source_files(getattr(self, name), (".jsonl",), f"examples.source.{name}")


class ExamplesConfig(StageConfig):
    """Where pairs and questions come from and how they are split."""

    model_config = ConfigDict(title="Examples: pairs and questions")

    source: Annotated[DocsSource | JsonlSource, Field(discriminator="kind")] = Field(
        DocsSource(), description="Documentation of installed packages, or files of your own."
    )
    heldout_fraction: float = Field(
        0.06, gt=0, lt=0.5, description="Share of the clusters held out of training, to measure tuning."
    )
    near_equal: float = Field(
        0.7,
        ge=0.3,
        le=1,
        description="Jaccard similarity of words and word pairs from which two texts are one cluster.",
    )
    dev_per_subject: int = Field(5, ge=0, le=50, description="Worked examples of each subject for few-shot prompts.")
    seed: int = Field(0, ge=0, lt=2**32, description="Decides splits, wording, damage and order.")


def examples(config: ExamplesConfig, *, out: Path) -> Metrics:
    """Write pairs and questions, and the objects of the corpus where they come from documentation."""
    from pipelines.corpus.documented.example_files import (  # pyarrow loads here, not when a plan is made
        from_docs,
        from_jsonl,
    )

    source = config.source
    return from_docs(config, source, out) if isinstance(source, DocsSource) else from_jsonl(config, source, out)


EXAMPLES = Stage("examples", version=1, run=examples, libraries=("orjson", "pyarrow"))
