"""Every text of the extension has a translation, and every translation belongs to a text. Needs no Blender."""

import ast
import re
import string
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from blender_addon import descriptions

ADDON = Path(__file__).resolve().parent.parent / "blender_addon"
INTERFACE = ("properties", "preferences", "panel", "operators", "jobs", "job", "results", "placing", "worker", "environment",
        "backend", "server", "scene", "glb", "regions", "comfyui", "pictures", "reconstruction", "shapes")  # fmt: skip
HINTS = ("RESUME", "AGAIN", "TEST", "WAIT")
"""Constants of `worker` that are shown to users."""
SHOWN = {"name", "description", "text", "placeholder", "heading"}
"""Arguments whose strings Blender shows."""


def texts() -> set[str]:
    """Return every string of the modules in INTERFACE that users may see."""
    found: set[str] = set()
    for module in INTERFACE:
        tree = ast.parse((ADDON / f"{module}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("translate", "_translate", "poll_message_set", "Complaint"):
                    found |= strings(node.args[0])
                if name.endswith("Property") or name in ("label", "prop", "operator", "column"):
                    for keyword in node.keywords:
                        if keyword.arg in SHOWN:
                            found |= strings(keyword.value)
                        if keyword.arg == "items":
                            found |= items(keyword.value)
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "QUALITIES":
                found |= items(node.value)
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("STAGES", "STEPS"):
                found |= set(ast.literal_eval(node.value)) if isinstance(node.value, ast.Tuple) else set()
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in (
                "REASONS",
                "EXPECT",
                "SOLVERS",
                "METHODS",
            ):
                found |= set(ast.literal_eval(node.value).values())
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in HINTS:
                found |= strings(node.value)
            elif isinstance(node, ast.ClassDef) and re.match(r"PULLBACK_OT|Generate\w", node.name):
                found.add(ast.get_docstring(node) or "")
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("bl_label", "text"):
                found |= strings(node.value)
    return (found | declared()) - {""}


def declared() -> set[str]:
    """Return the labels and tooltips of the properties that are made from descriptions.json."""
    settings = [descriptions.RUN[name] for name in ("seed", "steps", "eta", "solver")]
    for kind in descriptions.kinds().values():
        settings += {**kind.own, **kind.made, **kind.of_run}.values()
    settings += descriptions.pictures().values()
    shown = {text for each in settings for text in (each.label, each.tooltip)}
    return shown | {word.title() for each in settings for word in each.choices}


def strings(node: ast.AST) -> set[str]:
    """The constant strings of an expression: one, or either branch of a condition."""
    if isinstance(node, ast.IfExp):
        return strings(node.body) | strings(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def items(node: ast.AST) -> set[str]:
    """Names and descriptions of an enumeration's items."""
    if not isinstance(node, ast.Tuple):
        return set()
    return {
        text for item in node.elts if isinstance(item, ast.Tuple) for part in item.elts[1:3] for text in strings(part)
    }


def german() -> dict[str, str]:
    """Return the German dictionary, read without Blender."""
    tree = ast.parse((ADDON / "translations.py").read_text())
    value = next(n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "GERMAN")
    return ast.literal_eval(value)


def test_every_text_is_translated_and_nothing_else() -> None:
    found, known = texts(), german()
    assert len(found) > 80, "the texts were not found any more: is the code written in another way now?"
    assert sorted(found - known.keys()) == []
    assert sorted(known.keys() - found) == []


def test_no_error_is_raised_in_english_only() -> None:
    """An error that a module raises has a translated message, or is a `Complaint`, which is translated when it is shown.

    Reasons in brackets, which come from the system, are not translated.
    """
    raised = [
        f"{module}: {ast.unparse(node)}"
        for module in INTERFACE
        for node in ast.walk(ast.parse((ADDON / f"{module}.py").read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args
        and isinstance(node.exc.args[0], ast.Constant | ast.JoinedStr)
        and getattr(node.exc.func, "id", "") != "Complaint" and module != "glb"
    ]  # fmt: skip
    assert raised == []


def test_translations_keep_the_placeholders() -> None:
    def placeholders(text: str) -> list[str]:
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)

    for english, other in german().items():
        assert other and placeholders(english) == placeholders(other), english
