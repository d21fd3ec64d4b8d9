"""Licences: by their text, by a link, by a file's own line."""

from importlib import metadata
from pathlib import Path

import pytest

from pipelines.corpus.readers.licences import is_permissive, licence_of_url, nearest_licence, own_licence


@pytest.mark.parametrize(
    ("address", "licence"),
    [
        ("https://creativecommons.org/licenses/by-nc-nd/3.0/igo/", "CC-BY-NC-ND-3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ("https://a.example/terms", "https://a.example/terms"),
        ("", ""),
    ],
)
def test_a_link_is_a_licence_or_stays_a_link(address: str, licence: str) -> None:
    assert licence_of_url(address) == licence


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("MIT AND BSD-3-Clause", True),
        ("MIT AND GPL-3.0", False),
        ("GPL-3.0-only OR MIT", True),
        ("(GPL-2.0 OR LGPL-2.1)", False),
        ("NOASSERTION", False),
        ("NONE", False),
        ("", False),
        ("mit-ish", False),
    ],
)
def test_permissive_is_what_asks_for_attribution_at_most(licence: str, permissive: bool) -> None:
    assert is_permissive(licence) is permissive


def test_a_file_states_its_licence_in_its_head() -> None:
    assert own_licence("#!/bin/sh\n# SPDX-License-Identifier: MIT OR Apache-2.0\n") == "MIT OR Apache-2.0"
    assert own_licence("<!-- SPDX-License-Identifier: GPL-2.0+ -->") == "GPL-2.0+"
    assert own_licence("x = 1\n" * 2_000 + "# SPDX-License-Identifier: MIT\n") == ""


def licence_text(package: str, name: str) -> str:
    """Return the licence file of an installed package."""
    found = next(path for path in metadata.files(package) or () if path.name == name)
    return Path(str(found.locate())).read_text()


def test_the_nearest_licence_file_counts_and_two_of_them_both(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert nearest_licence(inner, tmp_path) == "NONE"
    (tmp_path / "LICENSE").write_text(licence_text("huggingface_hub", "LICENSE"))
    assert nearest_licence(inner, tmp_path) == "Apache-2.0"
    (tmp_path / "a" / "COPYING.txt").write_text(licence_text("identify", "LICENSE"))
    assert nearest_licence(inner, tmp_path) == "MIT"
    (tmp_path / "a" / "LICENSE-APACHE").write_text(licence_text("huggingface_hub", "LICENSE"))
    assert nearest_licence(inner, tmp_path) == "Apache-2.0 AND MIT"
    (inner / "license.py").write_text("x = 1")
    (inner / "LICENCE.md").write_bytes(b"all rights \xff reserved")
    assert nearest_licence(inner, tmp_path) == "NOASSERTION"
