"""Representations: the nodes that describe a field before it is sampled.

All except the pixel grid are made from what the core's representations declare. There is one node for each title, with the
settings of all representations that have this title. Representations of other packages get nodes in the same way.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..core.pullback.representation import Representation, Setting
from ..core.pullback.representations import GROUP, package_of, representations
from . import plans, schema
from .sockets import FieldValue

AUTO = "0 takes what suits the model (64 for toybox, 512 for SD 1.5, 1024 for larger ones)."
SUITED = "what suits the choice"
"""The meaning of 0 for a setting whose default differs among the representations of a node."""
SEEDED = ("network_seed",)
"""Settings that the node's seed replaces."""


def _fresh() -> list[io.Output]:
    return [schema.FIELD.Output(display_name="field", tooltip="A fresh field, for a Field Sampler.")]


class PixelGrid(io.ComfyNode):
    """Describes the identity field."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackPixelGrid",
            display_name="Pixel Grid (identity field)",
            category=schema.CATEGORY,
            description="A field that is just its pixels: Field Sampler then gives what KSampler's euler gives.",
            inputs=[
                io.Int.Input("width", default=0, min=0, max=8192, step=8, tooltip=f"Picture width in pixels. {AUTO}"),
                io.Int.Input("height", default=0, min=0, max=8192, step=8, tooltip=f"Picture height in pixels. {AUTO}"),
            ],
            outputs=_fresh(),
        )

    @classmethod
    def execute(cls, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(FieldValue(plans.Pixels(width, height)))


def titled() -> dict[str, list[type[Representation]]]:
    """Return the representations of each title, in order."""
    groups: dict[str, list[type[Representation]]] = {}
    for kind in representations().values():
        groups.setdefault(kind.title, []).append(kind)
    return groups


def node_of(kinds: list[type[Representation]]) -> type[io.ComfyNode]:
    """Return the node for the representations of one title. If there are several, it has an input to choose one."""
    first, settings = kinds[0], merged(kinds)
    title = "".join(word.capitalize() if word.isupper() or word == "NeRF" else word for word in first.title.split())

    def define_schema(cls: Any) -> io.Schema:
        return io.Schema(
            node_id=f"Pullback{title}",
            display_name=first.title,
            category=schema.CATEGORY,
            description=first.sentence,
            inputs=[*_choice(kinds), *_inputs(first, settings), schema.seed(_seed(first, settings))],
            outputs=_fresh(),
        )

    def execute(cls: Any, seed: int, views: int = 0, **given: Any) -> io.NodeOutput:
        chosen = given.pop(first.option, first.choice) if len(kinds) > 1 else first.choice
        kind = next(each for each in kinds if each.choice == chosen)
        values = {each.name: given[each.node or each.name] for each in settings.values() if each.name not in SEEDED}
        values = {name: value for name, value in values.items() if value or settings[name].unset != SUITED}
        seeded = {name: seed % (1 << 63) for name in SEEDED if name in settings}
        return io.NodeOutput(FieldValue(plans.Fresh.of(kind.name, views, seed, **values, **seeded)))

    body = {"__doc__": first.sentence, "__module__": __name__}
    methods = {"define_schema": classmethod(define_schema), "execute": classmethod(execute)}
    return type(title, (io.ComfyNode,), body | methods)


def merged(kinds: list[type[Representation]]) -> dict[str, Setting]:
    """Return the settings of a node, by name. If the default of a number differs among the kinds, 0 takes the chosen one's."""
    settings = {each.name: each for kind in kinds for each in kind.settings()}
    for name, each in settings.items():
        defaults = {k.choice: s.default for k in kinds for s in k.settings() if s.name == name}
        if len(set(defaults.values())) > 1 and not isinstance(each.default, str) and each.low > 0:
            suited = ", ".join(f"{choice} {default:g}" for choice, default in defaults.items())
            help = f"{each.help} 0 takes what suits the {kinds[0].option}: {suited}."
            settings[name] = replace(each, default=type(each.default)(0), low=0, help=help, unset=SUITED)
    return settings


def _choice(kinds: list[type[Representation]]) -> list[io.Input]:
    if len(kinds) == 1:
        return []
    words = " ".join(f"{each.choice}: {each.means}." for each in kinds)
    options = [each.choice for each in kinds]
    return [io.Combo.Input(kinds[0].option, options=options, default=options[0], tooltip=words)]


def _inputs(kind: type[Representation], settings: dict[str, Setting]) -> list[io.Input]:
    """Return the settings as inputs. The number of views follows their size."""
    made = []
    for each in settings.values():
        if each.name in SEEDED:
            continue
        made.append(_input(each))
        if each.name == "view_size" and kind.views:
            made.append(io.Int.Input("views", default=kind.views, min=1, max=64, tooltip=kind.looks))
    return made


def _input(setting: Setting) -> io.Input:
    name, default = setting.node or setting.name, setting.default
    tip = f"{setting.help} {AUTO}" if default == 0 and setting.unset not in ("", SUITED) else setting.help
    if isinstance(default, str):
        return io.Combo.Input(name, options=list(setting.choices), default=default, tooltip=tip)
    kind = type(default)
    low, high = (None if math.isinf(each) else kind(each) for each in (setting.low, setting.high))
    made = io.Int.Input if kind is int else io.Float.Input
    return made(name, default=default, min=low, max=high, step=kind(setting.step), tooltip=tip)


def _seed(kind: type[Representation], settings: dict[str, Setting]) -> str:
    if not any(name in settings for name in SEEDED):
        return "Seed of the cameras' positions; it is added to the noise's."
    return "Seed of the network's random start" + (" and of the views' directions." if kind.views else ".")


def lend() -> None:
    """If `pullback` is not installed, register our core under that name, so that other packages can import it."""
    if not entry_points(group=GROUP) or importlib.util.find_spec("pullback") is not None:
        return
    home = Path(__file__).parents[1] / "core" / "pullback"
    spec = importlib.util.spec_from_file_location(
        "pullback", home / "__init__.py", submodule_search_locations=[str(home)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules["pullback"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def nodes() -> list[type[io.ComfyNode]]:
    """Return one node for each title. Representations of other packages that fail are left out, with a warning in the log."""
    found: list[type[io.ComfyNode]] = [PixelGrid]
    for title, kinds in titled().items():
        try:
            node = node_of(kinds)
            node.define_schema()
        except Exception as error:  # noqa: BLE001  a mistake in another package must not disable our nodes
            packages = ", ".join(sorted({package_of(kind) for kind in kinds}))
            logging.warning("the node %s of %s is left out: %s", title, packages, error)
        else:
            found.append(node)
    return found


lend()
NODES = nodes()
