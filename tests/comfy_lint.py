"""Lint: what a stored /object_info says about our nodes, and whether a saved graph agrees with it. Needs no ComfyUI."""

from __future__ import annotations

from typing import Any

PREFIX = "Pullback"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
LISTED = {
    ("PullbackFillLMConv", "model"), ("PullbackLikelihoodLMConv", "model"), ("PullbackLoadFunctionModel", "model"),
    ("PullbackUpscaleInftyDiff", "model"), ("PullbackFillInftyDiff", "model"), ("PullbackSampleShapeDPF", "model"),
    ("PullbackLoadField", "file"), ("PullbackLoadFieldDecoder", "file"), ("PullbackLoadCLIPGuideModel", "file"),
}  # fmt: skip
"""Choices that depend on the machine: a snapshot leaves them out, and a graph may hold any."""


def reduced(object_info: dict[str, Any]) -> dict[str, Any]:
    """Our nodes out of an /object_info, in a form that no version of ComfyUI changes.

    {id: {display_name, category, output_node, inputs: [{name, type, optional, tooltip, ...}], outputs: [{name, type}]}}
    """
    return {name: _node(name, info) for name, info in sorted(object_info.items()) if name.startswith(PREFIX)}


def _node(node: str, info: dict[str, Any]) -> dict[str, Any]:
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, *rest) in info["input"].get(group, {}).items():
            options = dict(rest[0]) if rest else {}
            if isinstance(kind, list):
                kind, options["options"] = "COMBO", kind
            if (node, name) in LISTED:
                options["options"] = []
            kept = (
                "display_name",
                "tooltip",
                "default",
                "min",
                "max",
                "step",
                "options",
                "multiline",
                "control_after_generate",
            )
            known = {key: options[key] for key in kept if options.get(key) not in (None, False)}
            inputs.append({"name": name, "type": kind, "optional": group == "optional", **known})
    names, tips = info["output_name"], info.get("output_tooltips") or [None] * len(info["output"])
    outputs = [
        {"name": name, "type": kind, "tooltip": tip}
        for name, kind, tip in zip(names, info["output"], tips, strict=True)
    ]
    keys = ("display_name", "category", "description", "output_node")
    return {**{key: info[key] for key in keys}, "inputs": inputs, "outputs": outputs}


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What in `new` would break a graph that was saved with `old`: nodes or inputs gone, moved or of another type."""
    found = []
    for node, before in old.items():
        after = new.get(node)
        if after is None:
            found.append(f"{node} is gone")
            continue
        for what in ("inputs", "outputs"):
            was, now = (_sockets(version[what]) for version in (before, after))
            same = [name for name, _ in now[: len(was)]] == [name for name, _ in was]
            if not same or any(not _taken(a[1], b[1]) for a, b in zip(was, now, strict=False)):
                found.append(f"{node}: {what} were {was} and are {now}; append new ones at the end")
        for was, now in zip(before["inputs"], after["inputs"], strict=False):
            if set(was.get("options", ())) - set(now.get("options", ())):
                found.append(f"{node}.{was['name']} lost a choice")
    return found


def _sockets(listed: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["name"], each["type"]) for each in listed]


def _taken(kind: str, socket: str) -> bool:
    """Whether a socket, which may list several types, takes all of those that `kind` lists."""
    return set(kind.split(",")) <= set(socket.split(","))


def problems(graph: dict[str, Any], info: dict[str, Any]) -> list[str]:
    """What is wrong with a saved graph, of the page's form or of the API's, as far as our nodes go."""
    return _page(graph, info) if "nodes" in graph else _api(graph, info)


def _api(graph: dict[str, Any], info: dict[str, Any]) -> list[str]:
    found = []
    for number, node in graph.items():
        schema = info.get(node["class_type"])
        if schema is None:
            if node["class_type"].startswith(PREFIX):
                found.append(f"{number}: there is no {node['class_type']}")
            continue
        where = f"{number} {node['class_type']}"
        inputs = {each["name"]: each for each in schema["inputs"]}
        found += [f"{where}: there is no input {name}" for name in node["inputs"].keys() - inputs.keys()]
        for name, each in inputs.items():
            value = node["inputs"].get(name)
            if value is None:
                found += [] if each["optional"] else [f"{where}: {name} is missing"]
            elif isinstance(value, list):
                found += _linked(where, each, graph.get(str(value[0])), value[1], info)
            else:
                found += _valued(where, node["class_type"], each, value)
    return found


def _linked(where: str, each: dict[str, Any], source: Any, slot: int, info: dict[str, Any]) -> list[str]:
    if source is None:
        return [f"{where}: {each['name']} is linked to a node that is not there"]
    schema = info.get(source["class_type"])
    if schema is None:
        return []
    kind = schema["outputs"][slot]["type"] if slot < len(schema["outputs"]) else None
    return [] if kind and _taken(kind, each["type"]) else [f"{where}: {each['name']} takes {each['type']}, not {kind}"]


def _valued(where: str, node: str, each: dict[str, Any], value: Any) -> list[str]:
    kind, name = each["type"], each["name"]
    types: dict[str, Any] = {"INT": int, "FLOAT": (int, float), "STRING": str, "COMBO": str, "BOOLEAN": bool}
    if kind not in WIDGETS:
        return [f"{where}: {name} takes a link of {kind}, not {value!r}"]
    if not isinstance(value, types[kind]):
        return [f"{where}: {name} is {value!r}, not of {kind}"]
    if kind == "COMBO" and (node, name) not in LISTED and value not in each["options"]:
        return [f"{where}: {name} is {value!r}, not one of {each['options']}"]
    if kind in ("INT", "FLOAT") and not each.get("min", value) <= value <= each.get("max", value):
        return [f"{where}: {name} is {value}, out of range"]
    return []


def _page(graph: dict[str, Any], info: dict[str, Any]) -> list[str]:
    found = []
    nodes = {node["id"]: node for node in graph["nodes"]}
    for node in nodes.values():
        schema = info.get(node["type"])
        if schema is None:
            found += [f"there is no {node['type']}"] if node["type"].startswith(PREFIX) else []
            continue
        where = f"{node['id']} {node['type']}"
        names = {each["name"] for each in schema["inputs"]}
        found += [f"{where}: there is no input {e['name']}" for e in node.get("inputs", []) if e["name"] not in names]
        found += _widgets(where, node, schema)
        connected = {each["name"] for each in node.get("inputs", []) if each.get("link") is not None}
        sockets = [e for e in schema["inputs"] if e["type"] not in WIDGETS and not e["optional"]]
        found += [f"{where}: {e['name']} is not connected" for e in sockets if e["name"] not in connected]
    for number, source, slot, target, place, kind in graph["links"]:
        found += _wired(number, nodes.get(source), slot, nodes.get(target), place, kind, info)
    return found


def _widgets(where: str, node: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    values = list(node.get("widgets_values") or [])
    found = []
    for each in (each for each in schema["inputs"] if each["type"] in WIDGETS):
        if not values and each["optional"]:
            continue  # appended since the graph was saved: the page fills in its default
        if not values:
            return [*found, f"{where}: widgets_values end before {each['name']}"]
        found += _valued(where, node["type"], each, values.pop(0))
        if each.get("control_after_generate") and values.pop(0) not in ("fixed", "increment", "decrement", "randomize"):
            found.append(f"{where}: {each['name']} lacks its control_after_generate")
    return found + ([f"{where}: {len(values)} widgets_values too many"] if values else [])


def _wired(
    number: int, source: Any, slot: int, target: Any, place: int, kind: str, info: dict[str, Any]
) -> list[str]:  # fmt: skip
    if source is None or target is None:
        return [f"link {number} leads to a node that is not there"]
    found = []
    if source["type"] in info:
        outputs = info[source["type"]]["outputs"]
        if slot >= len(outputs) or outputs[slot]["type"] != kind:
            found.append(f"link {number}: {source['type']} has no {kind} at output {slot}")
    if target["type"] in info:
        name = target["inputs"][place]["name"]
        wanted = next((each["type"] for each in info[target["type"]]["inputs"] if each["name"] == name), None)
        if wanted is None or not _taken(kind, wanted):
            found.append(f"link {number}: {target['type']}.{name} takes {wanted}, not {kind}")
    return found
