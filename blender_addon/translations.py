"""Translations: the extension's texts in other languages, by Blender's own means. English is in the code."""

import bpy

GERMAN = {
    "200 plain Adam passes a step: for comparison, slow": "200 schlichte Adam-Durchläufe je Schritt: zum Vergleich, langsam",
    "A Stable Diffusion folder or .safetensors file on this machine": "Ein Ordner von Stable Diffusion oder eine "
    ".safetensors-Datei auf diesem Rechner",
    "A checkpoint of a ComfyUI server that has Pullback's nodes": "Ein Checkpoint eines ComfyUI-Servers, der Pullbacks "
    "Knoten hat",
    "A diffusers folder (it holds model_index.json), or a .safetensors checkpoint": "Ein Diffusers-Ordner (mit "
    "model_index.json) oder ein .safetensors-Checkpoint",
    "A good object in some minutes": "Ein gutes Objekt in einigen Minuten",
    "A strip eight times as wide as high": "Ein Streifen, achtmal so breit wie hoch",
    "Active Object": "Aktives Objekt",
    "Adam": "Adam",
    "Advanced": "Erweitert",
    "All around, up and down: a world": "Ringsum, oben und unten: eine Welt",
    "Allow Online Access first: Preferences, System, Network": "Zuerst Online-Zugriff erlauben: Einstellungen, System, "
    "Netzwerk",
    "As files in a folder named pullback, once the .blend has been saved": "Als Dateien in einem Ordner namens pullback, "
    "sobald die .blend-Datei gespeichert ist",
    "Ask the ComfyUI server whether it runs and has Pullback's nodes": "Den ComfyUI-Server fragen, ob er läuft und "
    "Pullbacks Knoten hat",
    "Ask the Python what it has, and what Pullback misses in it": "Das Python fragen, was es hat und was Pullback darin "
    "fehlt",
    "Asking the server": "Der Server wird gefragt",
    "Asking…": "Wird gefragt …",
    "Beside the .blend": "Neben der .blend-Datei",
    "Cancel": "Abbrechen",
    "Cancelled": "Abgebrochen",
    "Cannot keep files: {error}": "Dateien können nicht abgelegt werden: {error}",
    "Cells of a side of the grid in which the surface is found: more shows finer detail": "Zellen je Seite des Gitters, in "
    "dem die Oberfläche gesucht wird: mehr zeigt feinere Einzelheiten",
    "Checkpoint": "Checkpoint",
    "Choose the Python that has Pullback, or the ComfyUI server": "Das Python mit Pullback oder den ComfyUI-Server wählen",
    "Choose the model's folder first": "Zuerst den Ordner des Modells wählen",
    "ComfyUI": "ComfyUI",
    "ComfyUI Server": "ComfyUI-Server",
    "Continue this job where it stopped": "Diesen Auftrag dort fortsetzen, wo er anhielt",
    "Copy Log": "Protokoll kopieren",
    "Copy everything that was logged, for asking for help": "Das ganze Protokoll kopieren, um um Hilfe zu bitten",
    "Create Environment": "Umgebung anlegen",
    "Creating an environment needs Allow Online Access, under System": "Eine Umgebung anzulegen braucht „Online-Zugriff "
    "erlauben“, unter System",
    "Creating the environment; this takes minutes": "Die Umgebung wird angelegt; das dauert Minuten",
    "Custom": "Eigene",
    "Cylinder": "Zylinder",
    "Device": "Gerät",
    "Diffusers Folder": "Diffusers-Ordner",
    "Directions of a panorama that are looked at per step": "Richtungen eines Panoramas, die je Schritt angesehen werden",
    "Dismiss": "Verwerfen",
    "Draft": "Entwurf",
    "Eta": "Eta",
    "Faces": "Flächen",
    "Few passes, moments kept: quick and close": "Wenige Durchläufe, Momente bleiben erhalten: schnell und nahe dran",
    "Files": "Dateien",
    "Fine": "Fein",
    "Folder": "Ordner",
    "For image textures only": "Nur für Bildtexturen",
    "For keeping: twice the steps, three times the faces, twice the texture": "Zum Behalten: doppelt so viele Schritte, "
    "dreimal so viele Flächen, doppelte Textur",
    "Forget this job and what it has done so far": "Diesen Auftrag vergessen, mit allem, was er getan hat",
    "Found: {python}": "Gefunden: {python}",
    "Fresh noise per step: 0 none, 1 as much as was taken away": "Frisches Rauschen je Schritt: 0 keines, 1 so viel, wie "
    "entfernt wurde",
    "Gauss-Newton": "Gauß-Newton",
    "Generate NeRF object": "NeRF-Objekt erzeugen",
    "Generate image texture": "Bildtextur erzeugen",
    "Generate panorama world": "Panorama-Welt erzeugen",
    "Generate the same prompt with several seeds, side by side in a row that starts at the 3D cursor": "Denselben Text mit "
    "mehreren Startwerten erzeugen, nebeneinander in einer Reihe, die am 3D-Cursor beginnt",
    "Grid": "Gitter",
    "Guidance": "Führung",
    "How many objects to lay out in a row, each with its own seed": "Wie viele Objekte nebeneinander stehen sollen, jedes "
    "mit eigenem Startwert",
    "How much work to spend; sets the values under Advanced": "Wie viel Arbeit aufgewendet wird; setzt die Werte unter "
    "Erweitert",
    "How often each stretch is walked": "Wie oft jede Strecke gegangen wird",
    "How strictly images follow the prompt": "Wie streng Bilder dem Text folgen",
    "How strictly objects and panoramas follow the prompt: 0 not at all, 1 as trained, more exaggerates": "Wie streng "
    "Objekte und Panoramen dem Text folgen: 0 gar nicht, 1 wie gelernt, mehr übertreibt",
    "How the field is fitted at each step": "Wie das Feld bei jedem Schritt angepasst wird",
    "Image": "Bild",
    "Image Guidance": "Führung (Bilder)",
    "Install From": "Installieren aus",
    "Install From should name Pullback's folder or wheel": "„Installieren aus“ soll Pullbacks Ordner oder Wheel nennen",
    "It does not run: {error}": "Es läuft nicht: {error}",
    "Job": "Auftrag",
    "Jump": "Sprung",
    "Make an environment in Blender's user folder and install Pullback with torch in it: this downloads some 200 MB to 3 "
    "GB": "Eine Umgebung in Blenders Benutzerordner anlegen und Pullback mit torch darin installieren: das lädt 200 MB bis "
    "3 GB herunter",
    "Make another mesh and texture of the active object from its field, with these faces and pixels": "Aus dem Feld des "
    "aktiven Objekts ein anderes Mesh mit Textur machen, mit diesen Flächen und Pixeln",
    "Mesh": "Mesh",
    "Loading the model": "Das Modell wird geladen",
    "Mesh and texture": "Mesh und Textur",
    "Missing: {names}": "Es fehlt: {names}",
    "Model": "Modell",
    "Negative Prompt": "Negativer Text",
    "New Seed": "Neuer Startwert",
    "No Python in which Pullback is installed was found": "Es wurde kein Python gefunden, in dem Pullback installiert ist",
    "No Python with Pullback was found": "Kein Python mit Pullback gefunden",
    "No Python with Pullback was found: choose one, or create an environment": "Kein Python mit Pullback gefunden: eines "
    "wählen oder eine Umgebung anlegen",
    "No Python with Pullback yet": "Noch kein Python mit Pullback",
    "Noise levels to go back at a time": "Rauschstufen, die auf einmal zurückgegangen werden",
    "Noise levels to go through: more is finer and slower": "Rauschstufen: mehr ist feiner und langsamer",
    "Normal": "Normal",
    "Nothing else has to be carried along": "Nichts weiter muss mitgenommen werden",
    "Object": "Objekt",
    "Only for diffusers folders, not here: {names}": "Nur für Diffusers-Ordner, hier nicht da: {names}",
    "Packed in the .blend": "In die .blend-Datei gepackt",
    "Panorama Views": "Ansichten (Panorama)",
    "Paper": "Aufsatz",
    "Pixels around the world": "Pixel rund um die Welt",
    "Pixels of the image's side": "Pixel je Bildseite",
    "Pixels of the texture's side": "Pixel je Texturseite",
    "Preferences": "Einstellungen",
    "Projection": "Projektion",
    "Prompt": "Text",
    "Pullback": "Pullback",
    "Pullback is not installed in it: use its pip to install Pullback's folder": "Pullback ist darin nicht installiert: mit "
    "seinem pip Pullbacks Ordner installieren",
    "Pullback {version}": "Pullback {version}",
    "Pullback's Preferences": "Pullbacks Einstellungen",
    "Pullback's folder (it holds pyproject.toml) or its wheel, for Create Environment": "Pullbacks Ordner (mit "
    "pyproject.toml) oder sein Wheel, für „Umgebung anlegen“",
    "Python": "Python",
    "Python {version}": "Python {version}",
    "Quality": "Güte",
    "Re-mesh / re-bake": "Neu vernetzen / backen",
    "RePaint": "RePaint",
    "RePaint needs an Eta above 0, for example 0.75: see Advanced": "RePaint braucht ein Eta über 0, zum Beispiel 0,75: "
    "siehe Erweitert",
    "Ready: it is placed once you are in Object Mode": "Fertig: wird eingefügt, sobald du im Objektmodus bist",
    "Repeats": "Wiederholungen",
    "Resume": "Fortsetzen",
    "Roll the dice for another seed": "Einen anderen Startwert würfeln",
    "Sampling": "Wird gezogen",
    "Sample a panorama and set it as the scene's world, at any width": "Ein Panorama ziehen und als Welt der Szene setzen, "
    "in beliebiger Breite",
    "Sample a radiance field and place it at the 3D cursor as a textured mesh. You can go on working meanwhile": "Ein "
    "Strahlungsfeld ziehen und als texturiertes Mesh an den 3D-Cursor setzen. Du kannst dabei weiterarbeiten",
    "Sample an image, at any size, and put it into the active object's material": "Ein Bild in beliebiger Größe ziehen und "
    "ins Material des aktiven Objekts setzen",
    "See quickly what a prompt gives: few steps, a light mesh, a small texture": "Schnell sehen, was ein Text ergibt: "
    "wenige Schritte, ein leichtes Mesh, eine kleine Textur",
    "Seed": "Startwert",
    "Seeds": "Anzahl",
    "Several seeds": "Mehrere Startwerte",
    "Sides of an object that are looked at per step": "Seiten eines Objekts, die je Schritt angesehen werden",
    "Size": "Größe",
    "Solver": "Löser",
    "Sphere": "Kugel",
    "Starting the worker": "Der Worker startet",
    "Steps": "Schritte",
    "Stop this job. What it has done is kept, so that it can be resumed": "Diesen Auftrag anhalten. Was er getan hat, "
    "bleibt, damit er fortgesetzt werden kann",
    "Stopping": "Wird angehalten",
    "Stopped, because Blender was closed": "Angehalten, weil Blender geschlossen wurde",
    "Stopped, because another file was opened": "Angehalten, weil eine andere Datei geöffnet wurde",
    "Test": "Prüfen",
    "Texture": "Textur",
    "Textures": "Texturen",
    "The Python in which Pullback is installed. Empty: the environment made below, then the one on the PATH, then one "
    "beside the .blend file": "Das Python, in dem Pullback installiert ist. Leer: die unten angelegte Umgebung, dann die im "
    "PATH, dann eine neben der .blend-Datei",
    "The address of a ComfyUI that runs and has Pullback's nodes": "Die Adresse eines laufenden ComfyUI mit Pullbacks "
    "Knoten",
    "The environment is ready": "Die Umgebung ist bereit",
    "The environment was not made: {error}": "Die Umgebung wurde nicht angelegt: {error}",
    "The field file {path} is gone: generate the object again": "Die Felddatei {path} ist weg: das Objekt neu erzeugen",
    "The folder {folder} is full": "Der Ordner {folder} ist voll",
    "The job's number; 0 is the running one": "Die Nummer des Auftrags; 0 ist der laufende",
    "The log is on the clipboard": "Das Protokoll ist in der Zwischenablage",
    "The name of a checkpoint as the server lists it, or toybox": "Der Name eines Checkpoints, wie ihn der Server nennt, "
    "oder toybox",
    "The object {name} is gone": "Das Objekt {name} ist weg",
    "The panorama's shape": "Die Form des Panoramas",
    "The prompt is empty: say what to draw, for example: a red mushroom": "Der Text ist leer: sag, was zu zeichnen ist, zum "
    "Beispiel: a red mushroom",
    "The same seed gives the same result": "Derselbe Startwert gibt dasselbe Ergebnis",
    "The small model that comes with Pullback: needs no download, knows some fifty words": "Das kleine Modell, das Pullback "
    "mitbringt: braucht keinen Download, kennt gut fünfzig Wörter",
    "Toybox": "Toybox",
    "Triangles of the mesh, at most": "Dreiecke des Meshs, höchstens",
    "Try Again": "Neu versuchen",
    "Views": "Ansichten",
    "Walk back and forth between noise levels, so that views agree better; takes longer": "Zwischen Rauschstufen vor und "
    "zurück gehen, damit die Ansichten besser zusammenpassen; dauert länger",
    "What to draw, for example: a red mushroom": "Was zu zeichnen ist, zum Beispiel: a red mushroom",
    "What to keep away from": "Was vermieden werden soll",
    "Whatever stands under Advanced": "Was unter Erweitert steht",
    "Where the model runs in the worker: cpu, cuda, mps": "Wo das Modell im Worker läuft: cpu, cuda, mps",
    "Where the pictures of objects, worlds and images are kept": "Wo die Bilder von Objekten, Welten und Bildern liegen",
    "Which image model draws": "Welches Bildmodell zeichnet",
    "Width": "Breite",
    "Worker": "Worker",
    "World": "Welt",
    "Writing": "Wird geschrieben",
    "a red mushroom": "a red mushroom",
    "choose one in the preferences, or create an environment there": "wähle eines in den Einstellungen, oder lege dort eine "
    "Umgebung an",
    "it did not answer as a Python does": "es antwortete nicht wie ein Python",
    "not this": "das nicht",
    "torch {version}, on {devices}": "torch {version}, auf {devices}",
    "{done}, {minutes}:{seconds:02} left": "{done}, noch {minutes}:{seconds:02}",
    "{prompt}, seed {seed}": "{prompt}, Startwert {seed}",
}
CONTEXTS = ("*", "Operator", "Pullback")


def register() -> None:
    """Labels of operators have a context of their own in Blender, the qualities have ours, the rest has none."""
    texts = {(context, english): german for english, german in GERMAN.items() for context in CONTEXTS}
    bpy.app.translations.register(__package__, {"de": texts, "de_DE": texts})


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
