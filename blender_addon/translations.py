"""Translations: the extension's texts in other languages, by Blender's own means. English is in the code."""

import bpy

GERMAN = {
    "Generate NeRF object": "NeRF-Objekt erzeugen",
}


def register() -> None:
    """Labels of operators have a context of their own in Blender; the rest has none."""
    texts = {(context, english): german for english, german in GERMAN.items() for context in ("*", "Operator")}
    bpy.app.translations.register(__package__, {"de": texts, "de_DE": texts})


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
