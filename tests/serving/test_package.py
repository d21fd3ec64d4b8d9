"""The bundle: what is in it, that it is stable, and what a damaged or foreign one is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import file_digest
from pipelines.finetuning.contract import stamp
from pipelines.serving.bundle import open_bundle
from pipelines.serving.package import PackageConfig, package


def test_a_bundle_holds_every_precision_under_one_contract(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert list(opened.index.precisions) == ["full", "int8", "int4"]
    for precision in opened.index.precisions:
        folder = opened.model(precision)
        assert json.loads((folder / "contract.json").read_text())["digest"] == opened.index.contract
        generation = json.loads((folder / "generation_config.json").read_text())
        assert generation["pad_token_id"] not in [generation["eos_token_id"]]
    assert opened.index.precisions["int4"].bytes < opened.index.precisions["full"].bytes


def test_two_builds_give_the_same_bytes(bundle: Path, built: Any, tmp_path: Path) -> None:
    for manifest in built.store.glob("*/*/manifest.json"):
        again = json.loads(manifest.read_text()) | {
            "host": "another",
            "seconds": 1e6,
            "built_at": "later",
            "commit": "f",
        }
        manifest.write_text(json.dumps(again))
    config = PackageConfig(name="mill-1", dtype="float32")
    package(config, model=built.model, int8=built.int8, int4=built.int4, scores=built.scores, out=tmp_path)
    assert _digests(tmp_path / "bundle") == _digests(bundle)


def test_the_cards_tell_the_lineage_and_the_funnel_and_no_time_or_place(bundle: Path, built: Any) -> None:
    card = (bundle / "README.md").read_text()
    data = (bundle / "DATA_CARD.md").read_text()
    assert card.startswith("---\nlanguage: en\nlicense: unknown\n")
    assert "| docs_mc | acc | 0.5 | 0.4 to 0.6 | 90 | higher |" in card
    assert "| int4 | perplexity_difference |" in card
    assert "`" + "a" * 16 + "`" in card
    assert "| filter | 10 | 8 | too_short 2 |" in data
    assert "f" * 64 in data
    assert "unknown; no stage of this run recorded one" in data
    assert str(built.store) not in card + data


def test_the_portable_template_is_plain_jinja_and_the_models_keep_their_own(bundle: Path) -> None:
    assert "% generation" not in (bundle / "portable" / "chat_template.jinja").read_text()
    assert "{% generation %}" in (bundle / "model" / "chat_template.jinja").read_text()


def test_a_default_precision_that_was_not_built_is_refused(built: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="default_precision: 'int8' was not built"):
        package(PackageConfig(default_precision="int8"), model=built.model, out=tmp_path)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _relist(bundle: Path, name: str) -> None:
    """Make the index agree with a changed file, as one who tampers would."""
    index = json.loads((bundle / "bundle.json").read_text())
    index["files"][name] = {"sha256": file_digest(bundle / name), "bytes": (bundle / name).stat().st_size}
    (bundle / "bundle.json").write_text(json.dumps(index))


def _tamper(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        _edit(bundle / name, **changes)
        _relist(bundle, name)

    return change


def _add(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).write_bytes(b"x") and None


def _link(bundle: Path) -> None:
    (bundle / "README.md").rename(bundle.parent / "README.md")
    (bundle / "README.md").symlink_to(bundle.parent / "README.md")


def _smaller_tokenizer(bundle: Path) -> None:
    """Another tokenizer with far fewer ids, stamped and listed as if it belonged."""
    for folder in ("model", "int8", "int4"):
        path = bundle / folder / "tokenizer.json"
        content = json.loads(path.read_text())
        content["model"]["vocab"] = {t: i for t, i in content["model"]["vocab"].items() if i < 40}
        content["model"]["merges"] = []
        path.write_text(json.dumps(content))
        digest = stamp(bundle / folder).digest
        for name in ("tokenizer.json", "contract.json"):
            _relist(bundle, f"{folder}/{name}")
    _edit(bundle / "bundle.json", contract=digest)


def _larger_tokenizer(bundle: Path) -> None:
    path = bundle / "model" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["zzz"] = 5_000
    path.write_text(json.dumps(content))
    _relist(bundle, "model/tokenizer.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: _flip(b / "model" / "model.safetensors"), "is not the file that was packaged"),
        (lambda b: (b / "int8" / "config.json").unlink(), "is listed in bundle.json and absent"),
        (lambda b: (b / "bundle.json").unlink(), "does not exist; name the folder"),
        (lambda b: (b / "bundle.json").write_text("{"), "cannot be read"),
        (lambda b: _edit(b / "bundle.json", format=99), "format 99 is not 1"),
        (lambda b: _edit(b / "bundle.json", name="../up"), "name: String should match"),
        (lambda b: _edit(b / "bundle.json", default_precision="int2"), "'int2' is none of its precisions"),
        (lambda b: _edit(b / "bundle.json", contract="0" * 64), "its contract is"),
        (_add("model/evil.py"), "and nothing else; remove it"),
        (_add("model/pytorch_model.bin"), "and nothing else; remove it"),
        (_add("model/more.json"), "is not listed"),
        (_link, "is no regular file"),
        (_tamper("model/config.json", auto_map={"AutoModel": "x.Y"}), "auto_map asks to run"),
        (_tamper("model/tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}), "auto_map asks to run"),
        (_tamper("model/generation_config.json", eos_token_id=[5, 1]), "pad id 1 is in eos_token_id"),
        (_larger_tokenizer, "ids up to 5,000 and the model's embedding has"),
        (_smaller_tokenizer, "use the tokenizer that the model was trained with"),
    ],
)
def test_a_bundle_that_does_not_hold_together_is_refused_in_one_line(
    bundle: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    damage(copy)
    with pytest.raises(UserError, match=message) as caught:
        open_bundle(copy)
    assert "\n" not in str(caught.value)


def test_an_unknown_precision_is_told_which_there_are(bundle: Path) -> None:
    with pytest.raises(UserError, match="no 'int2'; it has full, int8, int4"):
        open_bundle(bundle).model("int2")


def _digests(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): file_digest(f) for f in sorted(folder.rglob("*")) if f.is_file()}
