"""The stage `evaluate`: what a model knows, how it ranks, where it leans and how it writes, each with an interval."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class EvaluateConfig(StageConfig):
    """Which tasks are run, and how much of each."""

    model_config = ConfigDict(title="Evaluation")
    runtime: ClassVar[frozenset[str]] = frozenset({"device"})
    pinned: ClassVar[frozenset[str]] = frozenset({"mirror"})

    heldout_tokens: int = Field(
        65_536, ge=1, description="Score whole held-out documents, drawn by their ids, up to this many tokens in all"
    )
    baseline_bytes: int = Field(
        64_000_000, ge=0, description="Train the byte 4-gram baseline on at most this much training text; 0 for none"
    )
    questions: int = Field(500, ge=0, description="Questions of the docs benchmark that are asked, at most")
    few_shot: int = Field(2, ge=0, le=64, description="Solved questions shown before each question")
    bias_templates: int = Field(1_000, ge=0, description="Templates of the bias probe that are used, at most")
    tasks: tuple[str, ...] = Field(
        (), description="Tasks of lm-eval by their official names, such as mmlu, blimp or arc_easy"
    )
    task_limit: int | None = Field(
        None, ge=1, description="Items of each such task, at most; of a group's members, each"
    )
    task_few_shot: int | None = Field(
        None, ge=0, le=64, description="Solved items shown before each item of these tasks; empty for each task's own"
    )
    mirror: Path | None = Field(
        None, description="Folder that holds the tasks' data sets, laid out by their ids on the hub"
    )
    revisions: dict[str, str] = Field(
        default_factory=dict, description="Without a mirror: the commit on the hub of each data set that is read"
    )
    incomplete_groups: bool = Field(
        False, description="Score a group over the members that the mirror holds and list the absent ones"
    )
    toxicity_prompts: int = Field(
        200,
        ge=0,
        le=100_000,
        description="Openings of held-out documents that the model continues for toxicity, at most",
    )
    toxicity_tokens: int = Field(32, ge=1, le=4_096, description="Longest such continuation")
    samples: int = Field(6, ge=0, le=1_000, description="Completions that are written down")
    sample_tokens: int = Field(48, ge=1, le=4_096, description="Longest completion")
    resamples: int = Field(1_000, ge=100, le=100_000, description="Bootstrap resamples behind each interval")
    seed: int = Field(20_260, ge=0, lt=2**32, description="Seed of the bootstrap and of few-shot examples")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number format the model computes in")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the model computes")
    batch_size: int = Field(
        16,
        ge=1,
        le=4_096,
        description="Sequences computed at once; identity, since the last bits depend on the padding",
    )

    def roots(self) -> dict[str, Root]:
        """Return the mirror's files."""
        if self.mirror is None or not self.tasks:
            return {}
        return {"mirror": FileRoot(source_files(self.mirror, ("",), "evaluate.mirror"), "evaluate.mirror")}


def evaluate(
    config: EvaluateConfig,
    *,
    model: Path,
    heldout: Path,
    train: Path | None = None,
    questions: Path | None = None,
    out: Path,
) -> Metrics:
    """Write the scores of `model`, each with its 95% interval, what it got for each item, and samples of its text.

    Without `train` there is no byte 4-gram to compare with, without `questions` no docs benchmark.
    """
    from pipelines.evaluation.suite import run_suite

    return run_suite(config, model=model, heldout=heldout, train=train, questions=questions, out=out)


EVALUATE = Stage(
    "evaluate",
    version=2,
    run=evaluate,
    libraries=("lm_eval", "numpy", "torch", "transformers"),
    data=("corpus/toxic/toxicity.safetensors", "evaluation/bias_templates.json"),
)
