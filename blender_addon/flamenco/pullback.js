// SPDX-License-Identifier: GPL-3.0-or-later

// A Flamenco job type: one task for each prompt and seed, each by Blender without a window and pullback's batch.py.
// Copy this file into the Manager's `scripts` folder. See docs/headless.md.

const JOB_TYPE = {
    label: "Pullback",
    description: "Sample a textured 3D object for each prompt and seed",
    settings: [
        { key: "prompts", type: "string", required: true, default: "a red mushroom; a blue fish",
          description: "What to draw: prompts with semicolons between them" },
        { key: "seeds", type: "string", required: true, default: "0",
          description: "Every prompt is drawn with each of these, for example: 0, 1, 2" },
        { key: "kind", type: "string", required: true, default: "prompt",
          choices: ["prompt", "panorama", "image", "tile", "shape"],
          description: "Objects (prompt), panorama worlds, images, materials (tile) or rough shapes" },
        { key: "quality", type: "string", required: true, default: "normal", choices: ["draft", "normal", "fine"],
          description: "How much work to spend" },
        { key: "output_folder", type: "string", subtype: "dir_path", required: true,
          description: "Where the .blend files go; every worker must see it at the same place" },
        { key: "render", type: "bool", required: false, default: true,
          description: "Also render a picture of each, so that a person can look" },
        { key: "batch_script", type: "string", subtype: "file_path", required: true, visible: "submission",
          description: "The path of blender_addon/batch.py where the workers see it" },
        { key: "python", type: "string", subtype: "file_path", required: false, visible: "submission", default: "",
          description: "The Python in which Pullback is installed, on the workers; empty: the one that is found" },
        { key: "model", type: "string", required: false, visible: "submission", default: "toybox",
          description: "toybox, a diffusers folder or a .safetensors checkpoint" },
        { key: "device", type: "string", required: false, visible: "submission", default: "cpu",
          description: "cpu, cuda, mps" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const prompts = listed(settings.prompts, ";");
    const seeds = listed(settings.seeds, ",");
    if (prompts.length === 0) throw new Error("no prompts: give at least one");
    for (const seed of seeds) {
        if (!/^[0-9]+$/.test(seed)) throw new Error(`the seed ${seed} is not a whole number`);
    }
    for (const prompt of prompts) {
        for (const seed of seeds) job.addTask(taskFor(settings, prompt, seed));
    }
}

function listed(text, separator) {
    return text.split(separator).map((part) => part.trim()).filter((part) => part.length > 0);
}

// One task can be run again at any time: --resume goes on where it stopped and does nothing that is done.
function taskFor(settings, prompt, seed) {
    const place = path.join(settings.output_folder, "{prompt}-{seed}");
    let args = [
        "-b", "--python-exit-code", "1", "--python", settings.batch_script, "--",
        `--${settings.kind}`, prompt, "--seed", seed, "--quality", settings.quality,
        "--model", settings.model || "toybox", "--device", settings.device || "cpu",
        "-o", `${place}.blend`, "--resume",
    ];
    if (settings.render) args = args.concat(["--render", `${place}.png`]);
    if (settings.python) args = args.concat(["--python", settings.python]);
    const task = author.Task(`${prompt} (${seed})`, "blender");
    task.addCommand(author.Command("exec", { exe: "{blender}", args: args }));
    return task;
}
