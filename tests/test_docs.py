"""What the documents say can be followed: links lead somewhere, commands parse, the README's example runs."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer
from pullback import cli

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = sorted(
    path for path in (ROOT / "core" / "pullback").rglob("*.py") if "    >>> " in path.read_text(encoding="utf-8")
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _commands():
    for page in PAGES:
        for line in re.findall(
            r"pullback (?:generate|image|panorama|shape|reconstruct|render|mesh|words|fill|likelihood)[^`|\n&]*",
            page.read_text(encoding="utf-8"),
        ):
            if "COMMAND" not in line:
                yield line


@pytest.mark.parametrize("line", sorted(set(_commands())))
def test_commands_parse(line):
    group = typer.main.get_command(cli.app)
    words = shlex.split(line)[1:]
    command = group.commands[words[0]]
    command.make_context(words[0], words[1:], resilient_parsing=False).close()


def _scripts():
    for page in PAGES:
        for script, options in re.findall(r"python (benchmarks/\w+\.py)([^`|\n]*)", page.read_text(encoding="utf-8")):
            yield script, tuple(re.findall(r"--[a-z-]+", options))


@pytest.mark.parametrize(("script", "options"), sorted(set(_scripts())))
def test_benchmarks_are_there_and_know_their_options(script, options):
    source = (ROOT / script).read_text(encoding="utf-8")
    for option in options:  # as text, or as a parameter that typer makes an option of
        assert f'"{option}"' in source or re.search(rf"\b{option[2:].replace('-', '_')}: [\w |]+ =", source), option


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda p: p.stem)
def test_the_examples_of_docstrings_run(path):
    module = ".".join(path.relative_to(ROOT / "core").with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed


def test_the_readme_s_example_runs(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert code and len(code[1].strip().splitlines()) <= 20
    exec(compile(code[1], "README.md", "exec"), {})
    assert "torch.Size([1, 4, 64, 64])" in capsys.readouterr().out
