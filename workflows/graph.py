"""Graph: describes a workflow, and builds it in ComfyUI's page.

A graph consists of columns of nodes. The page determines the sizes of the nodes, by which they are arranged. Inputs are given as
{"input": node} or {"input": (node, output slot)}, and widgets as {"widget": value}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from comfy_page import Page


@dataclass
class Node:
    """A node of a graph.

    Args:
        type: The id of the node's class.
        links: The inputs that are connected: a node and its output slot, by the name of the input.
        widgets: The values of widgets by name.
        title: The title, or "" for the default.
        box: The least width and height on the canvas.
    """

    type: str
    links: dict[str, tuple[Node, int]] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    box: tuple[int, int] = (0, 0)


class Graph:
    """A workflow.

    Args:
        name: The name of its files.
        needs: What the user must have to run it, such as "a checkpoint". The script that saves it cannot run it then.
    """

    def __init__(self, name: str, *, needs: str = ""):
        self.name, self.needs = name, needs
        self.columns: list[list[Node]] = []
        self.thumbnail: list[Node] = []

    def column(self) -> None:
        """Begin a new column to the right."""
        self.columns.append([])

    def add(self, type: str, *, title: str = "", box: tuple[int, int] = (0, 0), **values: Any) -> Node:
        """Add a node below the last one. `values` holds inputs and widgets by name."""
        links = {k: (v, 0) if isinstance(v, Node) else v for k, v in values.items() if isinstance(v, Node | tuple)}
        node = Node(type, links, {k: v for k, v in values.items() if k not in links}, title, box)
        self.columns[-1].append(node)
        return node

    def note(self, text: str, height: int = 240, width: int = 300) -> Node:
        """Add a note for the user, in Markdown."""
        return self.add("MarkdownNote", title="Note", box=(width, height), **{"": text.strip()})

    @property
    def nodes(self) -> list[Node]:
        return [node for column in self.columns for node in column]


BUILD = """
async ([columns, links]) => {
  app.graph.clear();
  const made = {};
  for (const column of columns) for (const want of column) {
    const node = LiteGraph.createNode(want.type);
    if (!node) throw new Error("no such node: " + want.type);
    if (want.title) node.title = want.title;
    app.graph.add(node);
    for (const [name, value] of Object.entries(want.widgets)) {
      const widget = name ? node.widgets.find(w => w.name === name) : node.widgets[0];
      if (!widget) throw new Error(want.type + " has no widget " + name);
      widget.value = value;
    }
    const control = (node.widgets || []).find(w => w.name === "control_after_generate");
    if (control) control.value = "fixed";
    made[want.id] = node;
  }
  for (const [from, slot, to, input] of links) {
    const at = made[to].inputs.findIndex(i => i.name === input);
    if (at < 0) throw new Error(made[to].type + " has no input " + input);
    const fits = made[from].connect(slot, made[to], at);
    if (!fits) throw new Error(made[from].type + " does not fit " + made[to].type + "." + input);
  }
  await new Promise(done => setTimeout(done, 1500));
  let x = 40;
  for (const column of columns) {
    let y = 80, width = 0;
    for (const want of column) {
      const node = made[want.id], least = node.computeSize();
      node.setSize([Math.max(want.box[0], least[0], 230), Math.max(want.box[1], least[1])]);
      width = Math.max(width, node.size[0]);
    }
    for (const want of column) {
      const node = made[want.id];
      node.setSize([width, node.size[1]]);
      node.pos = [x, y];
      y += node.size[1] + 52;
    }
    x += width + 40;
  }
  await new Promise(done => setTimeout(done, 500));
}
"""


def build(page: Page, graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build a graph in the page, and return its UI and API forms as the page saves them."""
    numbers = {id(node): i for i, node in enumerate(graph.nodes)}
    columns = [
        [{"id": numbers[id(n)], "type": n.type, "widgets": n.widgets, "title": n.title, "box": n.box} for n in column]
        for column in graph.columns
    ]
    links = [
        (numbers[id(source)], slot, numbers[id(n)], name)
        for n in graph.nodes
        for name, (source, slot) in n.links.items()
    ]
    page.page.evaluate(BUILD, [columns, links])
    ui, api = page.graph(), page.api()
    ui.pop("id", None)  # it changes whenever the graph is saved
    ui["extra"].pop("ds", None)  # the position of the canvas
    return ui, api
