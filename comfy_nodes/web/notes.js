// Shows what comfy_nodes/notes.py says.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "pullback.notes",
  setup() {
    api.addEventListener("pullback.note", ({ detail }) =>
      app.extensionManager.toast.add({ severity: "warn", summary: "Pullback", detail: detail.text, life: 120000 }),
    );
  },
});
