"""Crafted files and jobs: whatever is wrong with them is said in a sentence. `benchmarks/mutations.py` tries thousands."""

from __future__ import annotations

import mutations
import pytest


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_nothing_but_success_or_a_sentence(tmp_path, kind):
    found = [mutations.outcome(kind, seed, tmp_path)[0] for seed in range(60)]
    assert not [name for name in found if name.startswith("other")]
    assert found.count("refused") > 20
