"""Quantization: what is written, that it comes back, and what it is said to cost."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.pins import file_digest
from pipelines.compression import quantization
from pipelines.compression.quantize import QUANTIZE, QuantizeConfig, quantize
from pipelines.evaluation.scores import read_scores
from pipelines.finetuning.contract import check
from pipelines.models.loading import load_model
from tests.scores import find_score

SMALL: dict[str, Any] = {"windows": 8, "window_tokens": 64}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_model_is_smaller_and_comes_back_after_a_forward_pass(
    source: Any, tmp_path: Path, bits: Any, dtype: Any
) -> None:
    metrics = quantize(
        QuantizeConfig(bits=bits, dtype=dtype, **SMALL), model=source.model, heldout=source.heldout, out=tmp_path
    )
    scores = read_scores(tmp_path / "scores" / "scores.json")
    assert metrics["weights.reload_loss_difference"] < 1e-3
    assert metrics["weights.ratio_to_fp32"] < 0.75
    assert metrics["weight_bytes"] == (tmp_path / "model" / "model.safetensors").stat().st_size
    difference = find_score(scores, "heldout", "perplexity_difference")
    before, after = (find_score(scores, "heldout", f"perplexity_{when}") for when in ("before", "after"))
    assert difference.value == pytest.approx(after.value - before.value, abs=1e-3)
    assert difference.low <= difference.value <= difference.high
    assert difference.high - difference.low < before.high - before.low
    assert difference.n == 8
    assert 0.3 < find_score(scores, "heldout", "top1_agreement").value <= 1


def test_4_bit_weights_that_a_cpu_with_bf16_products_cannot_pack_are_left_as_they_are(
    source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model = load_model(source.model, quantization=quantization.bitsandbytes_config(QuantizeConfig(bits=4)))
    packed = {
        (layer.out_features % 32, layer.in_features % 64): layer.support_avx512bf16_for_cpu
        for layer in model.modules()
        if hasattr(layer, "support_avx512bf16_for_cpu")
    }
    assert packed and all(fits == (rest == (0, 0)) for rest, fits in packed.items())
    assert False in packed.values()


def test_the_quantized_model_keeps_the_contract_and_every_file_of_it(source: Any, tmp_path: Path) -> None:
    quantize(QuantizeConfig(bits=4, **SMALL), model=source.model, heldout=source.heldout, out=tmp_path)
    assert check(tmp_path / "model") == check(source.model)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (source.model / name).read_bytes()
    assert "quantization_config" in json.loads((tmp_path / "model" / "config.json").read_text())


@pytest.mark.parametrize("bits", [8, 4])
def test_the_same_model_gives_the_same_bytes(source: Any, tmp_path: Path, bits: Any) -> None:
    digests = []
    for name in ("first", "second"):
        out = tmp_path / name
        quantize(QuantizeConfig(bits=bits, **SMALL), model=source.model, heldout=source.heldout, out=out)
        digests.append({file.name: file_digest(file) for file in out.rglob("*.*") if file.is_file()})
    assert digests[0] == digests[1]


def test_the_number_of_windows_in_a_batch_is_identity_since_8_bits_finds_its_outliers_in_a_batch() -> None:
    assert QuantizeConfig(batch_windows=4).identity() != QuantizeConfig(batch_windows=3).identity()


def test_perplexity_before_is_the_source_models(source: Any, tmp_path: Path) -> None:
    config = QuantizeConfig(bits=8, windows=100, window_tokens=50)
    metrics = quantize(config, model=source.model, heldout=source.heldout, out=tmp_path)
    model = load_model(source.model)
    ids = torch.frombuffer(bytearray((source.heldout / "shard-00000.bin").read_bytes()), dtype=torch.uint16).long()
    with torch.inference_mode():
        losses = [model(input_ids=row[None], labels=row[None]).loss.item() for row in ids.view(40, 50)]
    assert metrics["heldout.perplexity_before"] == pytest.approx(math.exp(sum(losses) / 40), rel=1e-5)


def test_a_model_that_does_not_come_back_as_it_was_saved_fails_the_stage(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = quantization.save

    def damaging(model: Any, *rest: Any) -> None:
        kept = model.model.norm.weight.clone()
        model.model.norm.weight.data *= 2
        save(model, *rest)
        model.model.norm.weight.data = kept

    monkeypatch.setattr(quantization, "save", damaging)
    with pytest.raises(StageFailed, match="reloading the 4-bit model changed its loss"):
        quantize(QuantizeConfig(bits=4, **SMALL), model=source.model, heldout=source.heldout, out=tmp_path)


def test_the_shift_of_a_constant_loss_has_an_interval_of_no_width() -> None:
    value, low, high = quantization.perplexity_difference([1.0] * 5, [1.0] * 5, seed=0)
    assert (value, low, high) == (0, 0, 0)


def test_text_of_another_tokenizer_is_refused(source: Any, tmp_path: Path) -> None:
    heldout = shutil.copytree(source.heldout, tmp_path / "heldout")
    index = json.loads((heldout / "index.json").read_text())
    (heldout / "index.json").write_text(json.dumps(index | {"tokenizer_digest": "0" * 64}))
    with pytest.raises(UserError, match="was made by tokenizer 000000000000"):
        quantize(QuantizeConfig(), model=source.model, heldout=heldout, out=tmp_path)


def test_too_little_held_out_text_is_named(source: Any, tmp_path: Path) -> None:
    heldout = shutil.copytree(source.heldout, tmp_path / "heldout")
    index = json.loads((heldout / "index.json").read_text())
    index |= {"tokens": 100, "shards": [{"file": "shard-00000.bin", "tokens": 100}]}
    (heldout / "index.json").write_text(json.dumps(index))
    (heldout / "shard-00000.bin").write_bytes((source.heldout / "shard-00000.bin").read_bytes()[:200])
    with pytest.raises(UserError, match="two windows of 64 do not fit the 100 held-out tokens"):
        quantize(QuantizeConfig(window_tokens=64), model=source.model, heldout=heldout, out=tmp_path)


def test_weights_that_do_not_fit_their_config_are_refused(source: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(source.model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(UserError, match=r"unexpected keys, such as model\.layers\.1"):
        load_model(folder)


def test_the_stage_names_the_libraries_that_decide_its_bytes() -> None:
    assert QUANTIZE.libraries == ("bitsandbytes", "numpy", "torch", "transformers")
