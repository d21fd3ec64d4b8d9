"""A secret in a setting is refused by the name of its field, in a flow's parameters and on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.recipes import RECIPES
from pipelines.secret_values import refuse_secrets
from pipelines.settings import with_settings

SECRETS = [
    "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
    "sk-" + "proj-a1B2c3D4e5F6g7H8i9J0k1L2",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "https://me:hunter2@crawl.example/x.warc.gz",
    "postgresql://gristmill:hunter2@db/prefect",
    "https://bucket.example/x.warc.gz?X-Amz-Signature=0123456789abcdef",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
]
PLAIN = [
    "s3://bucket/crawl/*.warc.gz",
    "https://data.example/crawl?page=2",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "git+https://host.example/me@v1",
    "<|assistant|>{{ message['content'] }}",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_refused_by_its_field_and_not_repeated(secret: str) -> None:
    with pytest.raises(UserError, match=r"^report\.notes\.1: .*HF_TOKEN") as refused:
        refuse_secrets({"report": {"notes": ["fine", secret]}})
    assert secret not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("plain", PLAIN)
def test_addresses_and_digests_are_no_secrets(plain: str) -> None:
    refuse_secrets({"source": plain})


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_holds_a_secret(name: str) -> None:
    refuse_secrets(RECIPES[name]())


def test_a_setting_that_holds_a_secret_is_refused() -> None:
    with pytest.raises(UserError, match=r"^report\.title: "):
        with_settings(RECIPES["smoke"](), {"report": {"title": SECRETS[0]}})


def test_the_command_line_refuses_a_secret_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(json.dumps({"ingest": {"source": SECRETS[4]}}))
    for given in (("--set", f"ingest.source={SECRETS[4]}"), ("--recipe", str(tmp_path / "mine.yaml"))):
        command = [sys.executable, "-m", "deployments.cli", "plan", *given, "--store", str(tmp_path / "store")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "ingest.source" in done.stderr and "hunter2" not in done.stderr
