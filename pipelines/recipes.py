"""Named full configs, each derived from the one before, and recipes in files."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import yaml

from pipelines.artifacts.errors import UserError
from pipelines.config import FullConfig
from pipelines.settings import load_yaml, with_settings

MODELS = ("base", "sft", "aligned", "student")
BITS = ("int8", "int4")
DOCUMENTATION: dict[str, object] = {
    "language": {"min_score": 0.2},
    "gopher": {"min_words": 10, "min_alpha_word_ratio": 0.45, "max_mean_word_length": 12}
    | {"max_symbol_word_ratio": 0.2, "min_stop_words": 0},
    "repetition": {f"max_duplicate_{n}_gram_char_ratio": 0.4 for n in range(5, 11)}
    | {"max_top_2_gram_char_ratio": 0.4, "max_top_3_gram_char_ratio": 0.5, "max_top_4_gram_char_ratio": 0.6}
    | {"max_duplicate_line_ratio": 0.5, "max_duplicate_line_char_ratio": 0.4}
    | {"max_duplicate_paragraph_ratio": 0.5, "max_duplicate_paragraph_char_ratio": 0.4},
    "c4": {"min_sentences": 1, "drop_curly_bracket": False},
    "fineweb": {"min_punctuated_line_ratio": 0, "max_short_line_ratio": 1, "max_repeated_line_char_ratio": 1}
    | {"max_line_feed_word_ratio": 1},
    "toxicity": {"max_score": 0.98},
}
"""Thresholds for pages of documentation, where those for web text would take headings and signatures for noise."""
DOCUMENTATION_NEAR_SHARE = 0.7
"""Share of an item's n-grams from which a page of documentation is an edited copy. Pages of sibling objects hold up to
0.69 of a held-out summary ("slices of the masked clumps", "of the unmasked clumps"): of the demo's 3,110 pages 0.4
drops 22, 0.6 drops 5, siblings, and 0.7 none. Of planted copies with a twentieth of the words changed 0.7
finds 94%, with a tenth 73% (0.4: 99% and 93%); the held-out objects themselves are in no page to begin with."""
SMALL_EVALUATION: dict[str, object] = {
    "heldout_tokens": 12288,
    "questions": 40,
    "few_shot": 0,
    "bias_templates": 8,
    "toxicity_prompts": 16,
    "toxicity_tokens": 16,
    "samples": 2,
    "sample_tokens": 24,
}
DEMO_EVALUATION: dict[str, object] = {
    "heldout_tokens": 16384,
    "questions": 200,
    "bias_templates": 40,
    "toxicity_prompts": 64,
    "samples": 6,
    "sample_tokens": 48,
}


THRIFTY: dict[str, object] = {
    "optimizer": "muon",
    "lr": 0.01,
    "rates": {"embedding": 0.3, "unembedding": 0.008},
    "weight_decay": 0.0,
    "beta1": 0.8,
    "epsilon": 1e-10,
    "schedule": "linear",
    "warmup_steps": 0,
    "options": {"tied": False, "zero_outputs": True, "matrix_std": "fan_in", "embedding_std": 1.0}
    | {"unembedding_std": 0.001},
}
"""What learns most from few tokens: nanochat's way of training, as far as transformers' Llama expresses it:
docs/optimization.md."""


def smoke() -> FullConfig:
    """The whole chain in under two minutes on two cores: what the tests run."""
    return with_settings(
        FullConfig(),
        {
            "examples.source.packages": ("click", "pydantic", "rich"),
            "filter": DOCUMENTATION,
            "decontaminate.near_share": DOCUMENTATION_NEAR_SHARE,
            "tokenizer.vocab_size": 2048,
            "export_shards.formats": ("megatron", "datatrove"),
            "pretrain": {"size": "smoke", "sequence_length": 128, "global_batch": 8, "max_steps": 60}
            | {"optimizer": "muon", "lr": 0.02, "warmup_steps": 5, "micro_batch": 8}
            | {"heldout_every": 30, "heldout_sequences": 16, "checkpoint_every": 10},
            "sft": {"max_steps": 12, "global_batch": 16, "checkpoint_every": 4, "heldout": 32, "heldout_every": 6},
            "reward": {"max_steps": 12, "global_batch": 16, "checkpoint_every": 4, "always": True},
            "align": {"max_steps": 8, "global_batch": 16, "checkpoint_every": 3},
            "distill": {"size": "tiny", "sequence_length": 128, "global_batch": 8, "max_steps": 20, "micro_batch": 8}
            | {"optimizer": "muon", "lr": 0.02, "warmup_steps": 5}
            | {"heldout_every": 10, "heldout_sequences": 16, "checkpoint_every": 5},
            **{f"evaluate.{node}.{field}": value for node in MODELS for field, value in SMALL_EVALUATION.items()},
            **{f"quantize.{node}": {"windows": 8, "window_tokens": 128, "dtype": "float32"} for node in BITS},
            "package": {"licence": "apache-2.0", "dtype": "float32"},
            "retraining": {"min_documents": 20, "min_tokens": 2_000},
        },
    )


def demo() -> FullConfig:
    """A first real run, under ten minutes on two cores: a 2 M model of Python documentation."""
    return with_settings(
        smoke(),
        {
            "examples.source.packages": ("python", "numpy", "scipy", "pandas", "scikit-learn", "networkx"),
            "ingest.workers": 2,
            "annotate.workers": 2,
            "filter.workers": 2,
            "decontaminate.workers": 2,
            "tokenizer.vocab_size": 4096,
            "export_shards.formats": (),
            "pretrain": {"size": "mini", "sequence_length": 256, "max_steps": 240, "warmup_steps": 10}
            | {"heldout_every": 60, "heldout_sequences": 48, "checkpoint_every": 40},
            "sft": {"max_steps": 120, "global_batch": 32, "checkpoint_every": 40, "heldout": 256, "heldout_every": 60},
            "reward": {"max_steps": 60, "global_batch": 32, "checkpoint_every": 20},
            "align": {"max_steps": 40, "global_batch": 32, "checkpoint_every": 20},
            "distill": {"size": "smoke", "sequence_length": 256, "max_steps": 60, "warmup_steps": 10}
            | {"heldout_every": 30, "heldout_sequences": 32, "checkpoint_every": 20},
            **{f"evaluate.{node}.{field}": value for node in MODELS for field, value in DEMO_EVALUATION.items()},
            **{f"quantize.{node}": {"windows": 32, "window_tokens": 256} for node in BITS},
        },
    )


def thrifty() -> FullConfig:
    """The demo with the training that learns most from few tokens."""
    return with_settings(demo(), {"pretrain": THRIFTY})


def small() -> FullConfig:
    """124 M parameters on one GPU."""
    return with_settings(
        demo(),
        {
            "tokenizer.vocab_size": 32768,
            "pretrain": {"size": "small", "sequence_length": 1024, "global_batch": 512, "max_steps": 10_000}
            | {"dtype": "bf16", "optimizer": "adamw", "compile": "always", "device": "cuda", "lr": 6e-4}
            | {"warmup_steps": 500, "heldout_every": 500, "checkpoint_every": 500, "micro_batch": 32},
            "sft": {"max_steps": 1_000, "dtype": "bf16", "device": "cuda", "lr": 2e-5, "warmup_steps": 50},
            "reward": {"max_steps": 500, "dtype": "bf16", "device": "cuda", "lr": 1e-5},
            "align": {"max_steps": 500, "dtype": "bf16", "device": "cuda", "lr": 1e-6},
            "distill": {"size": "demo", "sequence_length": 1024, "global_batch": 128, "max_steps": 2_000}
            | {"dtype": "bf16", "optimizer": "adamw", "lr": 1e-3, "device": "cuda"},
            **{f"evaluate.{node}.device": "cuda" for node in MODELS},
            **{f"quantize.{node}": {"dtype": "bfloat16", "device": "cuda"} for node in BITS},
            "package.dtype": "bfloat16",
            "retraining": {"min_documents": 1_000, "min_tokens": 10_000_000},
        },
    )


def base() -> FullConfig:
    """1 B parameters on many GPUs."""
    return with_settings(
        small(),
        {
            "tokenizer.vocab_size": 65536,
            "pretrain": {"size": "base", "sequence_length": 4096, "global_batch": 1024, "max_steps": 20_000}
            | {"lr": 3e-4, "warmup_steps": 2_000, "micro_batch": 4},
            "distill": {"size": "small", "sequence_length": 4096},
        },
    )


RECIPES: dict[str, Callable[[], FullConfig]] = {
    "smoke": smoke,
    "demo": demo,
    "thrifty": thrifty,
    "small": small,
    "base": base,
}


def load_recipe(name: str) -> FullConfig:
    """Return a named recipe, or one from a YAML file whose `from` names the recipe that it changes."""
    if name in RECIPES:
        return RECIPES[name]()
    if not name.endswith((".yaml", ".yml")):
        near = get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(RECIPES)}, or name a YAML file"
        raise UserError(f"--recipe: {name!r} is none; {hint}")
    fields = load_yaml(Path(name))
    start = fields.pop("from", "demo")
    if start not in RECIPES:
        raise UserError(f"recipe: from: {start!r} is no recipe; there are {', '.join(RECIPES)}")
    return with_settings(RECIPES[start](), {str(key): value for key, value in fields.items()})


def as_yaml(config: FullConfig) -> str:
    """Return the config as a YAML recipe."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
