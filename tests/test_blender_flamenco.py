"""The Flamenco job type: compiled as a Manager would, and its command lines run. No farm is needed, and none is tested."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from blender_addon import arguments  # noqa: E402

SCRIPT = ROOT / "blender_addon" / "batch.py"
SOURCE = ROOT / "blender_addon" / "flamenco" / "pullback.js"
node = shutil.which("node")
pytestmark = pytest.mark.skipif(node is None, reason="needs node, which plays the Manager's part")

MANAGER = """
const author = { Task: (name, type) => ({ name, type, commands: [], addCommand(c) { this.commands.push(c); } }),
                 Command: (name, parameters) => ({ name, parameters }) };
const path = require("path");
const given = JSON.parse(process.argv[1]), tasks = [];
const source = process.argv[2] + "; return { JOB_TYPE, compileJob };";
const { JOB_TYPE, compileJob } = new Function("author", "path", source)(author, path);
const settings = {};
for (const s of JOB_TYPE.settings) {
    settings[s.key] = s.key in given ? given[s.key] : s.default;
    if (s.required && settings[s.key] === undefined) throw new Error("missing " + s.key);
    if (!["string", "int32", "float", "bool"].includes(s.type)) throw new Error("type " + s.type);
}
compileJob({ settings, addTask: (task) => tasks.push(task) });
console.log(JSON.stringify(tasks));
"""


def _compiled(**settings):
    source = SOURCE.read_text()
    done = subprocess.run([node, "-e", MANAGER, json.dumps(settings), source], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_it_offers_what_the_batch_makes():
    """A Manager reads this one file and nothing else, so that the kinds stand in it."""
    (listed,) = re.findall(r'key: "kind".*?choices: (\[.*?\])', SOURCE.read_text(), re.DOTALL)
    assert json.loads(listed) == [*arguments.named(), arguments.SHAPE]


def test_one_task_for_each_prompt_and_seed():
    tasks = _compiled(
        prompts="a red ball; a 'big' \"blue\" ball;", seeds="1, 2", output_folder="/farm", batch_script="/b.py"
    )
    assert [task["name"] for task in tasks] == [
        "a red ball (1)", "a red ball (2)", "a 'big' \"blue\" ball (1)", "a 'big' \"blue\" ball (2)"]  # fmt: skip
    for task in tasks:
        (command,) = task["commands"]
        arguments = command["parameters"]["args"]
        assert (task["type"], command["name"], command["parameters"]["exe"]) == ("blender", "exec", "{blender}")
        assert all(isinstance(argument, str) for argument in arguments)
        assert arguments.index("--python-exit-code") < arguments.index("--python"), (
            "else a failure would count as a success"
        )


@pytest.mark.parametrize(("settings", "said"), [({"prompts": " ; "}, "no prompts"), ({"seeds": "1, x"}, "the seed x")])
def test_mistakes_are_said_before_the_farm_starts(settings, said):
    assert said in _compiled(output_folder="/farm", batch_script="/b.py", **settings)


def test_the_command_lines_run(tmp_path, monkeypatch):
    """With this Python's Blender in place of {blender}: files, codes, and a second run that finds all done."""
    pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "stand_in"))
    tasks = _compiled(prompts="a red ball; a unicorn", output_folder=str(tmp_path), batch_script=str(SCRIPT),
                      python=sys.executable, render=False)  # fmt: skip
    run = "import runpy, sys; runpy.run_path(sys.argv[sys.argv.index('--python') + 1], run_name='__main__')"
    for _ in range(2):
        codes = [
            subprocess.run([sys.executable, "-c", run, *task["commands"][0]["parameters"]["args"]]).returncode
            for task in tasks
        ]
        assert codes == [0, 1]
    assert (tmp_path / "a-red-ball-0.blend").is_file() and not (tmp_path / "a-unicorn-0.blend").exists()
