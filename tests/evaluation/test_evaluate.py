"""The stage `evaluate` as a whole, on a two-layer model."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.store import Store
from pipelines.evaluation.evaluate import EVALUATE, EvaluateConfig, evaluate
from pipelines.evaluation.harness import load_tokenizer
from pipelines.evaluation.heldout import SplitText
from pipelines.evaluation.items import read_items
from pipelines.evaluation.loading import load_lm
from pipelines.evaluation.scores import read_scores
from pipelines.evaluation.surroundings import quiet
from pipelines.finetuning.chat import default_template
from pipelines.finetuning.contract import stamp
from tests.evaluation.mirror import write_data_set
from tests.evaluation.workbench import Workbench
from tests.scores import find_score

SMALL = {"heldout_tokens": 1_000, "questions": 8, "few_shot": 1, "bias_templates": 8, "samples": 2, "sample_tokens": 4}
CONFIG = EvaluateConfig(**SMALL)
LEAST = EvaluateConfig(heldout_tokens=200, questions=0, bias_templates=0, toxicity_prompts=0, samples=0)


def run(config: EvaluateConfig, workbench: Workbench, out: Path, **changes: Any) -> Metrics:
    paths = {
        "model": workbench.model,
        "heldout": workbench.heldout,
        "train": workbench.train,
        "questions": workbench.questions,
    }
    return evaluate(config, **(paths | changes), out=out)


def published(out: Path) -> dict[str, bytes]:
    """The content of all that the store would publish."""
    return {path.name: path.read_bytes() for kind in ("scores", "items", "samples") for path in (out / kind).iterdir()}


@pytest.fixture(scope="module")
def whole(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Metrics]:
    """One run of everything: its output and its metrics."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(CONFIG, workbench, out)


def test_every_score_carries_an_interval_around_it_and_is_a_metric(whole: tuple[Path, Metrics]) -> None:
    out, metrics = whole
    scores = read_scores(out / "scores/scores.json")
    assert {score.name: score.value for score in scores} == {
        name: value for name, value in metrics.items() if name != "truncated_requests"
    }
    assert all(score.low <= score.value <= score.high and score.n > 0 for score in scores)
    tasks = {score.task for score in scores}
    axes = {f"bias_probe_{axis}" for axis in ("gender", "age", "wealth", "origin")}
    assert tasks == {"docs_heldout", "docs_heldout_byte4gram", "docs_questions", "bias_probe", "toxicity"} | axes


def test_a_score_is_the_mean_of_its_items(whole: tuple[Path, Metrics]) -> None:
    out, metrics = whole
    items = read_items(out / "items")
    assert set(items) == {"docs_heldout.bits_per_byte", "docs_questions.acc", "toxicity.mean_probability"}
    for name, held in items.items():
        mean = sum(item.value for item in held) / sum(item.weight for item in held)
        assert mean == pytest.approx(metrics[name], rel=1e-4), name
    assert metrics["toxicity.mean_probability"] <= 1


def test_bits_per_byte_and_perplexity_are_those_of_the_model_asked_directly(
    whole: tuple[Path, Metrics], workbench: Workbench
) -> None:
    out, _ = whole
    with quiet():
        lm = load_lm(workbench.model, device="cpu", dtype="float32", batch_size=1)
    split = SplitText(workbench.heldout, load_tokenizer(workbench.model))
    nats = size = tokens = 0.0
    for span in split.draw(CONFIG.heldout_tokens):
        ids = torch.tensor(split.shards.window(span.start, span.length).astype("int64"))[None]
        assert span.length <= lm.max_length
        with torch.no_grad():
            nats += lm.model(ids, labels=ids).loss.item() * (span.length - 1)
        size += len(split.text(span))
        tokens += span.length - 1
    scores = read_scores(out / "scores/scores.json")
    assert find_score(scores, "docs_heldout", "perplexity").value == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    found = find_score(scores, "docs_heldout", "bits_per_byte").value
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    baseline = find_score(scores, "docs_heldout_byte4gram", "bits_per_byte").value
    above = find_score(scores, "docs_heldout", "bits_per_byte_above_byte4gram").value
    assert above == pytest.approx(found - baseline, abs=1e-4)


def test_the_same_inputs_give_the_same_bytes(whole: tuple[Path, Metrics], workbench: Workbench, tmp_path: Path) -> None:
    run(CONFIG, workbench, tmp_path)
    assert published(tmp_path) == published(whole[0])


def test_where_the_model_computes_is_no_part_of_the_key() -> None:
    assert EvaluateConfig(device="cuda").identity() == EvaluateConfig().identity()
    assert EvaluateConfig(batch_size=3).identity() != EvaluateConfig().identity()


def test_without_training_text_and_questions_only_the_model_is_scored(workbench: Workbench, tmp_path: Path) -> None:
    metrics = run(LEAST, workbench, tmp_path, train=None, questions=None)
    assert set(metrics) == {"docs_heldout.perplexity", "docs_heldout.bits_per_byte", "truncated_requests"}


def test_a_chat_model_answers_questions_and_a_base_model_goes_on_with_text(
    whole: tuple[Path, Metrics], workbench: Workbench, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(workbench.model, model)
    (model / "chat_template.jinja").write_text(default_template())
    stamp(model)
    run(CONFIG, workbench, tmp_path / "out", model=model)
    answers = [json.loads(line) for line in (tmp_path / "out/samples/samples.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in answers] == [f"Which of these describes the function f{n}?" for n in range(2)]
    texts = [json.loads(line) for line in (whole[0] / "samples/samples.jsonl").read_text().splitlines()]
    assert all(any(text.startswith(row["prompt"]) for text in workbench.heldout_texts) for row in texts)
    assert all(row["completion"] for row in texts)


def test_shards_of_another_tokenizer_are_refused(workbench: Workbench, tmp_path: Path) -> None:
    heldout = tmp_path / "heldout"
    shutil.copytree(workbench.heldout, heldout)
    index = json.loads((heldout / "index.json").read_text())
    (heldout / "index.json").write_text(json.dumps(index | {"tokenizer_digest": "0" * 64}))
    with pytest.raises(UserError, match="another tokenizer"):
        run(LEAST, workbench, tmp_path, heldout=heldout)


def test_a_model_that_brings_its_own_code_is_refused(workbench: Workbench, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(workbench.model, model)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(UserError, match="auto_map"):
        run(LEAST, workbench, tmp_path, model=model)


def test_weights_that_are_a_pickle_are_not_read(workbench: Workbench, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(workbench.model, model)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"safetensors"):
        run(LEAST, workbench, tmp_path, model=model)


def test_a_question_whose_answer_is_no_choice_is_named(workbench: Workbench, tmp_path: Path) -> None:
    questions = tmp_path / "questions"
    shutil.copytree(workbench.questions, questions)
    rows = (questions / "test.jsonl").read_text().splitlines()
    rows[1] = json.dumps(json.loads(rows[1]) | {"answer": 4})
    (questions / "test.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r"test.jsonl line 2 has answer 4"):
        run(CONFIG, workbench, tmp_path, questions=questions)


def arc_items(count: int) -> list[dict[str, Any]]:
    """Rows in the form of ARC on the hub."""
    choices = {"text": ["sun", "moon"], "label": ["A", "B"]}
    return [
        {"id": str(n), "question": f"What shines {n}?", "choices": choices, "answerKey": "AB"[n % 2]}
        for n in range(count)
    ]


def mirror_of_arc(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write_data_set(
        folder / "allenai/ai2_arc", {"ARC-Easy": {"train": rows, "validation": rows, "test": rows}}, "A toy."
    )
    return folder


def test_an_official_task_runs_by_its_name_from_a_mirror(workbench: Workbench, tmp_path: Path) -> None:
    mirror = mirror_of_arc(tmp_path / "mirror", arc_items(6))
    config = LEAST.model_copy(update={"tasks": ("arc_easy",), "mirror": mirror, "task_limit": 4})
    metrics = run(config, workbench, tmp_path / "out", train=None)
    score = find_score(read_scores(tmp_path / "out/scores/scores.json"), "arc_easy", "acc")
    assert score.n == 4
    assert score.value == metrics["arc_easy.acc"]
    assert json.loads((tmp_path / "out/scores/scores.json").read_text())["notes"]["data_sets"] == {
        "allenai/ai2_arc": "A toy."
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".progress", "scores", "items", "samples"}


def test_the_mirror_s_content_and_not_its_path_is_in_the_key(tmp_path: Path, store: Store) -> None:
    one = mirror_of_arc(tmp_path / "one", arc_items(6))
    other = mirror_of_arc(tmp_path / "other", arc_items(5))
    shutil.copytree(one, tmp_path / "copy")

    def pin(mirror: Path) -> tuple[dict[str, Any], dict[str, str]]:
        config = EvaluateConfig(tasks=("arc_easy",), mirror=mirror)
        return config.identity(), {name: root.pin(store.pins) for name, root in config.roots().items()}

    assert pin(one) == pin(tmp_path / "copy")
    assert pin(one) != pin(other)


def test_a_broken_data_set_is_an_error_that_names_the_task(workbench: Workbench, tmp_path: Path) -> None:
    mirror = mirror_of_arc(tmp_path / "mirror", [{"wrong": "column"}])
    config = LEAST.model_copy(update={"tasks": ("arc_easy",), "mirror": mirror})
    with pytest.raises(StageFailed, match="task arc_easy cannot be loaded"):
        run(config, workbench, tmp_path)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (("wikitext",), "lacks EleutherAI/wikitext_document_level wikitext-2-raw-v1, which task 'wikitext' reads"),
        (("blimp",), "lacks 66 of the 67 members of 'blimp'"),
    ],
)
def test_what_a_mirror_lacks_is_named_before_any_work(
    workbench: Workbench, tmp_path: Path, tasks: tuple[str, ...], message: str
) -> None:
    row = {"sentence_good": "He is.", "sentence_bad": "He are."}
    write_data_set(tmp_path / "mirror/nyu-mll/blimp", {"causative": {"train": [row, row]}}, "A toy.")
    config = LEAST.model_copy(update={"tasks": tasks, "mirror": tmp_path / "mirror"})
    with pytest.raises(UserError, match=message):
        run(config, workbench, tmp_path / "out")
    assert not (tmp_path / "out/samples").exists()


def test_a_group_is_scored_over_the_members_at_hand_where_that_is_asked_for(
    workbench: Workbench, tmp_path: Path
) -> None:
    row = {"sentence_good": "He is.", "sentence_bad": "He are."}
    parts = {name: {"train": [row] * 3} for name in ("causative", "transitive")}
    write_data_set(tmp_path / "mirror/nyu-mll/blimp", parts, "A toy.")
    changes = {"tasks": ("blimp",), "mirror": tmp_path / "mirror", "incomplete_groups": True}
    run(LEAST.model_copy(update=changes), workbench, tmp_path / "out", train=None)
    path = tmp_path / "out/scores/scores.json"
    assert find_score(read_scores(path), "blimp", "acc").n == 6
    absent = json.loads(path.read_text())["notes"]["absent_members"]["blimp"]
    assert len(absent) == 65
    assert "blimp_causative" not in absent


def test_a_hub_data_set_without_a_commit_is_refused(workbench: Workbench, tmp_path: Path) -> None:
    config = LEAST.model_copy(update={"tasks": ("arc_easy",)})
    with pytest.raises(UserError, match=r"set revisions to \{allenai/ai2_arc: COMMIT\} or name a mirror"):
        run(config, workbench, tmp_path)


def test_a_misspelt_task_is_answered_with_the_nearest_names(workbench: Workbench, tmp_path: Path) -> None:
    config = LEAST.model_copy(update={"tasks": ("arc_esy",)})
    with pytest.raises(UserError, match="'arc_esy' is no task of lm-eval; did you mean arc_easy"):
        run(config, workbench, tmp_path)


def test_a_plan_of_the_stage_imports_no_heavy_library() -> None:
    script = (
        "import sys, pipelines.evaluation.evaluate; "
        "print(*{'torch', 'transformers', 'lm_eval', 'numpy', 'datasets', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_key_holds_the_libraries_that_decide_a_score() -> None:
    assert EVALUATE.libraries == ("lm_eval", "numpy", "torch", "transformers")
    assert EVALUATE.config is EvaluateConfig
