"""Translations: the extension's texts in other languages, for Blender's translation system. English is in the code."""

import bpy

GERMAN = {
    '"{prompt}", {move} of {total}': "„{prompt}“, {move} von {total}",
    "1 unfinished run: {runs}": "1 unfertiger Lauf: {runs}",
    "200 plain Adam passes a step: for comparison, slow": "200 schlichte Adam-Durchläufe je Schritt: zum Vergleich, langsam",
    "A small model of panoramas, built in: its 6 landscapes in seconds, in less detail": "Ein kleines, eingebautes "
    "Modell für Panoramen: seine 6 Landschaften in Sekunden, mit weniger Einzelheiten",
    "A Stable Diffusion folder or .safetensors file on this machine: any prompt": "Ein Ordner von Stable Diffusion "
    "oder eine .safetensors-Datei auf diesem Rechner: jeder Prompt",
    "A checkpoint of a ComfyUI server that has Pullback's nodes": "Ein Checkpoint eines ComfyUI-Servers, der Pullbacks "
    "Knoten hat",
    "A diffusers folder (it holds model_index.json), or a .safetensors checkpoint whose family's configuration is "
    "in Hugging Face's cache": "Ein Diffusers-Ordner (mit model_index.json) oder ein .safetensors-Checkpoint, "
    "dessen Konfiguration in Hugging Faces Cache liegt",
    "A good object in some minutes": "Ein gutes Objekt in einigen Minuten",
    "A region has no sentence: say what it should show, or remove it (see Advanced)": "Ein Bereich hat keinen Satz: "
    "sag, was er zeigen soll, oder entferne ihn (siehe Erweitert)",
    "A server on another machine needs Allow Online Access, under System": "Ein Server auf einem anderen Rechner "
    "braucht den Online-Zugriff, unter System",
    "A start needs the worker: choose another model than ComfyUI Server": "Ein Anfang braucht den Worker: wähle ein "
    "anderes Modell als ComfyUI-Server",
    "A transforms.json, or a folder with COLMAP's text files. Empty: the selected cameras and their "
    "background images": "Eine transforms.json oder ein Ordner mit COLMAPs Textdateien. Leer: die ausgewählten "
    "Kameras und ihre Hintergrundbilder",
    "Active Object": "Aktives Objekt",
    "Active Region": "Aktiver Bereich",
    "Adam": "Adam",
    "Add Region": "Bereich hinzufügen",
    "Add a region: a sentence about a part of the result": "Einen Bereich hinzufügen: einen Satz über einen Teil des "
    "Ergebnisses",
    "Advanced": "Erweitert",
    "Allow Online Access first: Preferences, System, Network": "Zuerst Online-Zugriff erlauben: Einstellungen, System, "
    "Netzwerk",
    "Angle above the horizon": "Winkel über dem Horizont",
    "Angle from the left to the right edge of the box": "Winkel vom linken zum rechten Rand des Kastens",
    "Angle from the lower to the upper edge of the box": "Winkel vom unteren zum oberen Rand des Kastens",
    "As files in a folder named pullback, once the .blend has been saved": "Als Dateien in einem Ordner namens pullback, "
    "sobald die .blend-Datei gespeichert ist",
    "Ask the ComfyUI server whether it runs and has Pullback's nodes": "Den ComfyUI-Server fragen, ob er läuft und "
    "Pullbacks Knoten hat",
    "Check what is installed in this Python, and what Pullback still needs": "Das Python fragen, was es hat und was Pullback "
    "darin fehlt",
    "Asking the server": "Der Server wird gefragt",
    "Asking…": "Wird gefragt …",
    "Azimuth": "Azimut",
    "Azimuth of the object's front; 0 is -Y. Only models that know sides need it": "Azimut der Vorderseite des "
    "Objekts; 0 ist -Y. Nur Modelle, die Seiten kennen, brauchen ihn",
    "Bake Size": "Größe der Ansichten",
    "Bake Views": "Ansichten der Textur",
    "Beside the .blend": "Neben der .blend-Datei",
    "Block-outs: 24 objects, 10 colors, 6 landscapes": "Grobformen: 24 Objekte, 10 Farben, 6 Landschaften",
    "Built in and small: simple shapes for blocking out and for trying things, no finished assets": "Eingebaut und "
    "klein: einfache Formen zum Anlegen einer Szene und zum Probieren, keine fertigen Modelle",
    "Cameras that each sampling step looks through": "Kameras, durch die jeder Schritt blickt",
    "Cancel": "Abbrechen",
    "Cancelled": "Abgebrochen",
    "Cannot keep files: {error}": "Dateien können nicht abgelegt werden: {error}",
    "Cells along each side of the grid on which the surface is extracted": "Zellen je Seite des Gitters, in dem die "
    "Oberfläche gesucht wird",
    "Check the interpreter in the preferences with Test": "Den Interpreter in den Einstellungen mit „Prüfen“ ansehen",
    "Checkpoint": "Checkpoint",
    "Choose the Python that has Pullback, or the ComfyUI server": "Das Python mit Pullback oder den ComfyUI-Server wählen",
    "Choose the model's folder first": "Zuerst den Ordner des Modells wählen",
    "ComfyUI": "ComfyUI",
    "ComfyUI Server": "ComfyUI-Server",
    "ComfyUI {version} has Pullback's nodes and {count} checkpoints": "ComfyUI {version} hat Pullbacks Knoten und "
    "{count} Checkpoints",
    "Continue this job where it stopped": "Diesen Auftrag dort fortsetzen, wo er anhielt",
    "Copy Log": "Protokoll kopieren",
    "Copy the whole log, so that you can ask for help": "Das ganze Protokoll kopieren, um um Hilfe zu bitten",
    "Create Environment": "Umgebung anlegen",
    "Create Environment also installs diffusers, which Stable Diffusion folders need": "„Umgebung anlegen“ "
    "installiert auch diffusers, das Ordner von Stable Diffusion brauchen",
    "Creating an environment needs Allow Online Access, under System": "Eine Umgebung anzulegen braucht „Online-Zugriff "
    "erlauben“, unter System",
    "Custom": "Eigene",
    "Delete": "Löschen",
    "Delete results in Blender's user folder that are older than a week and that no .blend file uses. You are asked first": "Die "
    "Ergebnisse in Blenders Benutzerordner löschen, die keine .blend-Datei verwendet und die älter als eine Woche "
    "sind. Vorher wird gefragt",
    "Delete unused results: {count}, {size:.1f} MB?": "Unbenutzte Ergebnisse löschen: {count}, {size:.1f} MB?",
    "Depth": "Tiefe",
    "Detail": "Feinheit",
    "Device": "Gerät",
    "Diet": "Diet",
    "Diffusers Folder": "Diffusers-Ordner",
    "Direction": "Richtung",
    "Direction seen from above. Objects: 0 is the front, 90 the side at +X. Worlds: 0 is +X, 90 is +Y": ""
    "Richtung, von oben gesehen. Objekte: 0 ist vorn, 90 die Seite bei +X. Welten: 0 ist +X, 90 ist +Y",
    "Discard": "Löschen",
    "Dismiss": "Verwerfen",
    "Distance": "Abstand",
    "Distance of the cameras from the middle; the object lives within 1 of it": "Abstand der Kameras von der "
    "Mitte; das Objekt liegt innerhalb von 1 davon",
    "Down": "Nach unten",
    "Draft": "Entwurf",
    "Draw a rough shape in one go, in seconds, and place it at the 3D cursor as a textured mesh": "Eine grobe Form "
    "in einem Zug zeichnen, in Sekunden, und als texturiertes Mesh an den 3D-Cursor setzen",
    "Draft Shape": "Form entwerfen",
    "Elevation": "Erhebung",
    "Eta": "Eta",
    "Everywhere": "Überall",
    "Faces": "Flächen",
    "Few passes, moments kept: quick and close": "Wenige Durchläufe, Momente bleiben erhalten: schnell und nahe dran",
    "Field": "Feld",
    "Files": "Dateien",
    "Fine": "Fein",
    "Finetune": "Feinabstimmung",
    "Folder": "Ordner",
    "For image textures only": "Nur für Bildtexturen",
    "For keeping: twice the steps, three times the faces, twice the texture": "Zum Behalten: doppelt so viele Schritte, "
    "dreimal so viele Flächen, doppelte Textur",
    "Forget this job and what it has done so far": "Diesen Auftrag vergessen, mit allem, was er getan hat",
    "Found: {python}": "Gefunden: {python}",
    "Fov": "Blickwinkel",
    "Fresh noise per step, 0 to 1": "Frisches Rauschen je Schritt, 0 bis 1",
    "From Pictures": "Aus Bildern",
    "Front": "Vorderseite",
    "Gauss-Newton": "Gauß-Newton",
    "Gaussians": "Gauß-Funktionen",
    "Generate NeRF object": "NeRF-Objekt erzeugen",
    "Generate image texture": "Bildtextur erzeugen",
    "Generate material": "Material erzeugen",
    "Generate panorama world": "Panorama-Welt erzeugen",
    "Generate the same prompt with several seeds, side by side in a row that starts at the 3D cursor": "Denselben Text mit "
    "mehreren Startwerten erzeugen, nebeneinander in einer Reihe, die am 3D-Cursor beginnt",
    "Grid": "Gitter",
    "Grid points along each side of a voxel field": "Gitterpunkte entlang jeder Seite eines Voxelfelds",
    "Grid points along each side of the cube": "Gitterpunkte je Seite des Würfels",
    "Guidance": "Führung",
    "Height": "Höhe",
    "Height in pixels of the view that the model sees. 0: what suits the model (64 for toybox, 512 for SD 1.5, "
    "1024 for larger ones)": "Höhe der Ansicht, die das Modell sieht, in Pixeln. 0: was zum Modell passt (64 für "
    "Toybox, 512 für SD 1.5, 1024 für größere)",
    "Height of the box, in percent of the picture's": "Höhe des Kastens in Prozent der Bildhöhe",
    "Highest": "Höchste",
    "Highest elevation of the cameras in degrees. Not set: what the model knows objects from": "Höchste Erhebung "
    "der Kameras in Grad. Nicht gesetzt: von wo das Modell Objekte kennt",
    "How a panorama world is drawn": "Wie eine Panorama-Welt gezeichnet wird",
    "How each step is fitted: adam, paper or gauss-newton": "Wie jeder Schritt angepasst wird: adam, paper oder "
    "gauss-newton",
    "How many Gaussians the object is made of": "Aus wie vielen Gauß-Funktionen das Objekt besteht",
    "How many objects to lay out in a row, each with its own seed": "Wie viele Objekte nebeneinander stehen sollen, jedes "
    "mit eigenem Startwert",
    "How many sine layers the network has": "Wie viele Sinus-Schichten das Netz hat",
    "How much this region counts. 0: not at all": "Wie viel dieser Bereich zählt. 0: gar nicht",
    "How much work to spend; sets the values under Advanced": "Wie viel Arbeit aufgewendet wird; setzt die Werte unter "
    "Erweitert",
    "How often a new material repeats across the object; afterwards its Mapping node says so": "Wie oft sich ein "
    "neues Material über das Objekt wiederholt; danach sagt es sein Mapping-Knoten",
    "How often each stretch is walked": "Wie oft jede Strecke gegangen wird",
    "How strictly to follow the prompt: 0 not at all, 1 as trained": "Wie streng dem Text gefolgt wird: 0 gar "
    "nicht, 1 wie gelernt",
    "How: nerf (the photographs alone), diet (and what they mean), or pullback (the rest is sampled)": "Wie: nerf "
    "(allein die Fotos), diet (und was sie bedeuten) oder pullback (der Rest wird gezogen)",
    "Image": "Bild",
    "In Views": "In Ansichten",
    "Installing Pullback": "Pullback wird installiert",
    "Installing torch": "torch wird installiert",
    "It does not run: {error}": "Es läuft nicht: {error}",
    "Job": "Auftrag",
    "Jump": "Sprung",
    "Kind": "Art",
    "Last steps, mostly on photographs; beside --steps in pullback, among them in diet. Not set: 40, pullback 150": "Letzte "
    "Schritte, in denen vor allem die Fotos zählen; bei pullback neben den Schritten, bei diet unter ihnen. Nicht gesetzt: 40, "
    "pullback 150",
    "Left": "Links",
    "Left edge of the box, in percent of the picture's width": "Linker Rand des Kastens in Prozent der Bildbreite",
    "Loading the model": "Das Modell wird geladen",
    "Lowest": "Niedrigste",
    "Lowest elevation of the cameras in degrees. Not set: what the model knows objects from": "Niedrigste "
    "Erhebung der Kameras in Grad. Nicht gesetzt: von wo das Modell Objekte kennt",
    "Make a Python with Pullback and torch in Blender's user folder, and use it: this downloads 300 MB, with CUDA 3 GB": ""
    "In Blenders Benutzerordner ein Python mit Pullback und torch anlegen und verwenden: das lädt 300 MB herunter, "
    "mit CUDA 3 GB",
    "Make a textured mesh of what the background images of the selected cameras show, where they show it": "Ein "
    "texturiertes Mesh aus dem machen, was die Hintergrundbilder der ausgewählten Kameras zeigen, und dort, wo sie "
    "es zeigen",
    "Make another mesh and texture of the active object from its field, with these faces and pixels": "Aus dem Feld des "
    "aktiven Objekts ein anderes Mesh mit Textur machen, mit diesen Flächen und Pixeln",
    "Making the environment": "Die Umgebung wird angelegt",
    "Material": "Material",
    "Mesh": "Mesh",
    "Mesh and texture": "Mesh und Textur",
    "Method": "Methode",
    "Missing: {names}": "Es fehlt: {names}",
    "Model": "Modell",
    "Move Region": "Bereich verschieben",
    "Move the active region in the list. Their order does not change the result": "Den aktiven Bereich in der Liste "
    "verschieben. Die Reihenfolge ändert das Ergebnis nicht",
    "Needs diffusers and, for minutes instead of hours, a graphics card: set Device to cuda and Guidance to 7": "Braucht "
    "diffusers und, für Minuten statt Stunden, eine Grafikkarte: Gerät auf cuda und Führung auf 7 stellen",
    "Negative Prompt": "Negativer Text",
    "Nerf": "Nerf",
    "NeRF from Shape": "NeRF aus der Form",
    "Network Seed": "Startwert des Netzes",
    "Neurons": "Neuronen",
    "New Seed": "Neuer Startwert",
    "No Python in which Pullback is installed was found": "Es wurde kein Python gefunden, in dem Pullback installiert ist",
    "No Python with Pullback was found": "Kein Python mit Pullback gefunden",
    "No Python with Pullback was found: choose one, or create an environment": "Kein Python mit Pullback gefunden: eines "
    "wählen oder eine Umgebung anlegen",
    "No Python with Pullback yet": "Noch kein Python mit Pullback",
    "Noise levels to go back at a time": "Rauschstufen, die auf einmal zurückgegangen werden",
    "Noise levels to go through": "Rauschstufen, durch die es geht",
    "Normal": "Normal",
    "Nothing else has to be carried along": "Nichts weiter muss mitgenommen werden",
    "Object": "Objekt",
    "Object from Pictures": "Objekt aus Bildern",
    "Objects of .blend files never opened or saved here could not be re-meshed": "Objekte aus .blend-Dateien, die "
    "hier nie geöffnet oder gespeichert wurden, könnten nicht neu vernetzt werden",
    "Missing, but only needed for diffusers folders: {names}": "Nur für Diffusers-Ordner, hier nicht da: {names}",
    "Only {name} has a picture: select two or more cameras with background images": "Nur {name} hat ein Bild: "
    "wähle zwei oder mehr Kameras mit Hintergrundbildern aus",
    "Packed in the .blend": "In die .blend-Datei gepackt",
    "Paper": "Aufsatz",
    "Pictures": "Bilder",
    "Pictures need the worker: choose another model than ComfyUI Server": "Bilder brauchen den Worker: wähle ein "
    "anderes Modell als ComfyUI-Server",
    "Poses": "Posen",
    "Preferences": "Einstellungen",
    "Prompt": "Text",
    "Pullback": "Pullback",
    "Pullback is not installed in it: install it with its pip, or create an environment": "Pullback ist darin nicht "
    "installiert: mit seinem pip installieren, oder eine Umgebung anlegen",
    "Pullback {version}": "Pullback {version}",
    "Pullback's Preferences": "Pullbacks Einstellungen",
    "Pullback's Python cannot make {kind} any more": "Pullbacks Python kann {kind} nicht mehr machen",
    "Purge Unused Results": "Unbenutzte Ergebnisse löschen",
    "Python": "Python",
    "Python {version}": "Python {version}",
    "Quality": "Güte",
    "Re-mesh / re-bake": "Neu vernetzen / backen",
    "RePaint": "RePaint",
    "RePaint needs an Eta above 0, for example 0.75: see Advanced": "RePaint braucht ein Eta über 0, zum Beispiel 0,75: "
    "siehe Erweitert",
    "Ready: it is placed once you are in Object Mode": "Fertig: wird eingefügt, sobald du im Objektmodus bist",
    "Regions": "Bereiche",
    "Regions need the worker: choose another model than ComfyUI Server, or remove them under Advanced": ""
    "Bereiche brauchen den Worker: ein anderes Modell als den ComfyUI-Server wählen, oder sie unter Erweitert "
    "entfernen",
    "Remove Region": "Bereich entfernen",
    "Remove the active region": "Den aktiven Bereich entfernen",
    "Renewing pip": "pip wird erneuert",
    "Repeats": "Wiederholungen",
    "Resolution": "Auflösung",
    "Results that no .blend file uses: {count}, {size:.1f} MB": "Ergebnisse, die keine .blend-Datei verwendet: "
    "{count}, {size:.1f} MB",
    "Resume": "Fortsetzen",
    "Resume continues the run where it stopped": "„Fortsetzen“ macht dort weiter, wo der Lauf anhielt",
    "Roll the dice for another seed": "Einen anderen Startwert würfeln",
    "Sample a NeRF object that begins as this draft, for the draft's prompt and seed, and put its mesh in the draft's place": ""
    "Ein NeRF-Objekt ziehen, das als dieser Entwurf beginnt, mit dessen Text und Startwert, und sein Mesh an die "
    "Stelle des Entwurfs setzen",
    "Sample a panorama and set it as the scene's world, at any width": "Ein Panorama ziehen und als Welt der Szene setzen, "
    "in beliebiger Breite",
    "Sample a picture that repeats without a seam, and give it to the active object as a material": "Ein Bild "
    "ziehen, das sich ohne Naht wiederholt, und es dem aktiven Objekt als Material geben",
    "Sample a radiance field and place it at the 3D cursor as a textured mesh. You can go on working meanwhile": "Ein "
    "Strahlungsfeld ziehen und als texturiertes Mesh an den 3D-Cursor setzen. Du kannst dabei weiterarbeiten",
    "Sample an image, at any size, and put it into the active object's material": "Ein Bild in beliebiger Größe ziehen und "
    "ins Material des aktiven Objekts setzen",
    "Sampling": "Wird gezogen",
    "See quickly what a prompt gives: few steps, a light mesh, a small texture": "Schnell sehen, was ein Text ergibt: "
    "wenige Schritte, ein leichtes Mesh, eine kleine Textur",
    "Seed": "Startwert",
    "Seed of the network's random start": "Startwert des zufälligen Anfangs des Netzes",
    "Seeds": "Anzahl",
    "Select a draft that Draft Shape made": "Wähle einen Entwurf aus, den „Form entwerfen“ gemacht hat",
    "Select an object that Pullback generated": "Ein Objekt auswählen, das Pullback erzeugt hat",
    "Select cameras with background images, or choose a transforms.json": "Wähle Kameras mit Hintergrundbildern "
    "aus oder eine transforms.json",
    "Select the cameras that took the pictures, or choose a transforms.json": "Wähle die Kameras aus, die die "
    "Bilder aufgenommen haben, oder eine transforms.json",
    "Sentence": "Satz",
    "Several seeds": "Mehrere Startwerte",
    "Shape": "Form",
    "Side in pixels of one view that the model sees. 0: what suits the model (64 for toybox, 512 for SD 1.5, "
    "1024 for larger ones)": "Seite einer Ansicht, die das Modell sieht, in Pixeln. 0: was zum Modell passt (64 "
    "für Toybox, 512 für SD 1.5, 1024 für größere)",
    "Side of the photographs in pixels; larger ones are reduced": "Seite der Fotos in Pixeln; größere werden "
    "verkleinert",
    "Simplified": "Vereinfacht",
    "Size": "Größe",
    "Solver": "Löser",
    "Starting the worker": "Der Worker startet",
    "Steps": "Schritte",
    "Steps of ten passes; of the method pullback, noise levels. 0: 150, pullback 30": "Schritte von je zehn "
    "Durchläufen; bei der Methode pullback Rauschstufen. 0: 150, pullback 30",
    "Stop this job. What it has done is kept, so that it can be resumed": "Diesen Auftrag anhalten. Was er getan hat, "
    "bleibt, damit er fortgesetzt werden kann",
    "Stop, and delete the unfinished environment": "Anhalten und löschen, was von der Umgebung da ist",
    "Stopped, because another file was opened": "Angehalten, weil eine andere Datei geöffnet wurde",
    "Stopping": "Wird angehalten",
    "Test": "Prüfen",
    "Texture": "Textur",
    "Textures": "Texturen",
    "The ComfyUI server {address} is on another machine: switch on Allow Online Access in the preferences, under "
    "System": "Der ComfyUI-Server {address} ist auf einem anderen Rechner: Online-Zugriff in den Einstellungen "
    "unter System erlauben",
    "The model above draws views that agree: any of its prompts, in detail": "Das Modell oben zeichnet Ansichten, "
    "die zusammenpassen: jeden seiner Texte, mit Einzelheiten",
    "The Python in which Pullback is installed. Empty: the environment made below, then the one on the PATH, then one "
    "beside the .blend file": "Das Python, in dem Pullback installiert ist. Leer: die unten angelegte Umgebung, dann die im "
    "PATH, dann eine neben der .blend-Datei",
    "The address of a ComfyUI that runs and has Pullback's nodes": "Die Adresse eines laufenden ComfyUI mit Pullbacks "
    "Knoten",
    "The camera {name} and all others stand at the same place: move each to where its picture was taken": "Die "
    "Kamera {name} und alle anderen stehen am selben Ort: stelle jede dorthin, wo ihr Bild aufgenommen wurde",
    "The camera {name} has no perspective: set the type of its lens": "Die Kamera {name} hat keine Perspektive: "
    "ändere die Art ihrer Linse",
    "The camera {name} has no picture: give it a background image, in the tab of its lens": "Die Kamera {name} hat "
    "kein Bild: gib ihr ein Hintergrundbild, im Reiter ihrer Linse",
    "The environment is ready": "Die Umgebung ist bereit",
    "The environment was not made: {error}": "Die Umgebung wurde nicht angelegt: {error}",
    "The field file {path} is gone: generate the object again": "Die Felddatei {path} ist weg: das Objekt neu erzeugen",
    "The file {path} does not exist": "Die Datei {path} gibt es nicht",
    "The finest detail that is easy to draw, in radians per half picture. Latents of 1024-pixel models want "
    "about 20": "Die feinste Einzelheit, die leicht zu zeichnen ist, in Radiant je halbem Bild. Latente von "
    "1024-Pixel-Modellen brauchen etwa 20",
    "The folder {folder} is full": "Der Ordner {folder} ist voll",
    "The job's number. 0: the running one, or all that earlier sessions left": "Die Nummer des Auftrags. 0: der "
    "laufende, oder alle, die frühere Sitzungen liegen ließen",
    "The largest number of triangles of the mesh": "Dreiecke des Meshs, höchstens",
    "The log is on the clipboard": "Das Protokoll ist in der Zwischenablage",
    "The method {method} needs a prompt: say what the pictures show": "Die Methode {method} braucht einen Prompt: "
    "sag, was die Bilder zeigen",
    "The name of a checkpoint as the server lists it, or toybox": "Der Name eines Checkpoints, wie ihn der Server nennt, "
    "oder toybox",
    "The object {name} is gone": "Das Objekt {name} ist weg",
    "The picture of {name} is scaled, moved, turned or flipped: let it fill the camera's frame": "Das Bild von "
    "{name} ist skaliert, verschoben, gedreht oder gespiegelt: lass es den Rahmen der Kamera füllen",
    "The picture {picture} of {name} cannot be read: load a still picture from a file": "Das Bild {picture} von "
    "{name} kann nicht gelesen werden: lade ein Standbild aus einer Datei",
    "The pictures alone": "Allein die Bilder",
    "The pictures cannot be copied: {error}": "Die Bilder können nicht kopiert werden: {error}",
    "The prompt is empty: say what to draw, for example: a red mushroom": "Der Text ist leer: sag, was zu zeichnen ist, zum "
    "Beispiel: a red mushroom",
    'The region "{text}" reaches over the edge of the picture: move it, or make it smaller': "Der Bereich „{text}“ "
    "reicht über den Rand des Bildes: verschiebe oder verkleinere ihn",
    "The same seed gives the same result": "Derselbe Startwert gibt dasselbe Ergebnis",
    "The sentence is about the whole result": "Der Satz gilt für das ganze Ergebnis",
    "The whole sphere takes no regions: remove them under Advanced, or sample views": "Die ganze Kugel nimmt keine "
    "Bereiche an: entferne sie unter Erweitert, oder ziehe Ansichten",
    "This build of the extension brings no Pullback to install: make an environment by hand": "Dieser Bau der "
    "Erweiterung bringt kein Pullback zum Installieren mit: eine Umgebung von Hand anlegen",
    "This model takes no negative prompt: clear the field below the prompt": "Dieses Modell nimmt keinen negativen "
    "Text an: leere das Feld unter dem Text",
    "Top": "Oben",
    "Toybox": "Toybox",
    "Try Again": "Neu versuchen",
    "Try again; if it happens again, the log says why": "Neu versuchen; geschieht es wieder, sagt das Protokoll, warum",
    "Unused results deleted: {count}, {size:.1f} MB": "Unbenutzte Ergebnisse gelöscht: {count}, {size:.1f} MB",
    "Up": "Nach oben",
    "Upper edge of the box, in percent of the picture's height": "Oberer Rand des Kastens in Prozent der Bildhöhe",
    "Vertical angle of one view in degrees (sphere only)": "Senkrechter Winkel einer Ansicht in Grad (nur für "
    "die Kugel)",
    "Vertical angle of the cameras in degrees": "Senkrechter Winkel der Kameras in Grad",
    "View Height": "Höhe der Ansicht",
    "View Size": "Größe der Ansicht",
    "View Width": "Breite der Ansicht",
    "Views": "Ansichten",
    "Views that each sampling step looks at": "Ansichten, die jeder Schritt ansieht",
    "Views that the model samples in each step": "Ansichten, die das Modell in jedem Schritt zieht",
    "Views that the texture is baked from": "Ansichten, aus denen die Textur entsteht",
    "Voxels": "Voxel",
    "Wait, or cancel the job: it can be resumed later": "Warten, oder den Auftrag abbrechen: er kann später "
    "fortgesetzt werden",
    "Walk back and forth between noise levels, so that views agree better; takes longer": "Zwischen Rauschstufen vor und "
    "zurück gehen, damit die Ansichten besser zusammenpassen; dauert länger",
    "Weight": "Gewicht",
    "What no picture shows is sampled, for the prompt; toybox needs pictures with transparency": "Was kein Bild "
    "zeigt, wird zum Prompt gezogen; toybox braucht Bilder mit Transparenz",
    "What the object is made of: voxels, nerf (a small network), simplified or paper (the networks of the "
    "papers, for GPUs)": "Woraus das Objekt besteht: voxels, nerf (ein kleines Netz), simplified oder paper (die "
    "Netze der Aufsätze, für GPUs)",
    "What the pictures mean, too": "Auch, was die Bilder bedeuten",
    "What the regions are for": "Wofür die Bereiche sind",
    "What this part should show, for example: a red mushroom": "Was dieser Teil zeigen soll, zum Beispiel: a red "
    "mushroom",
    "What to draw, for example: a red mushroom": "Was zu zeichnen ist, zum Beispiel: a red mushroom",
    "What to keep away from": "Was vermieden werden soll",
    "The values set under Advanced": "Was unter Erweitert steht",
    "Where the model runs in the worker: cpu, cuda, mps": "Wo das Modell im Worker läuft: cpu, cuda, mps",
    "Where the pictures of objects, worlds and images are kept": "Wo die Bilder von Objekten, Welten und Bildern liegen",
    "Where to": "Wohin",
    "Which image model draws": "Welches Bildmodell zeichnet",
    "Whole Sphere at Once": "Die ganze Kugel auf einmal",
    "Width": "Breite",
    "Width and height of the texture in pixels": "Breite und Höhe der Textur in Pixeln",
    "Width and height of these views in pixels": "Breite und Höhe dieser Ansichten in Pixeln",
    "Width in pixels of the view that the model sees. 0: what suits the model (64 for toybox, 512 for SD 1.5, "
    "1024 for larger ones)": "Breite der Ansicht, die das Modell sieht, in Pixeln. 0: was zum Modell passt (64 "
    "für Toybox, 512 für SD 1.5, 1024 für größere)",
    "Width of the box, in percent of the picture's": "Breite des Kastens in Prozent der Bildbreite",
    "Width of the network's layers": "Breite der Schichten des Netzes",
    "Width of the picture in pixels": "Breite des Bildes in Pixeln",
    "With Diffusers": "Mit Diffusers",
    "Worker": "Worker",
    "World": "Welt",
    "World Model": "Modell der Welt",
    "Writing": "Wird geschrieben",
    "a red mushroom": "a red mushroom",
    "a texture beside the .blend file needs the object's field file": "eine Textur neben der .blend-Datei braucht "
    "die Felddatei des Objekts",
    "choose one in the preferences, or create an environment there": "wähle eines in den Einstellungen, oder lege dort eine "
    "Umgebung an",
    "everywhere": "überall",
    "it did not answer like Python": "es antwortete nicht wie ein Python",
    "it was stopped": "sie wurde abgebrochen",
    "its folder cannot be written: close other windows of Blender and try again": "in ihren Ordner kann nicht "
    "geschrieben werden: andere Fenster von Blender schließen und neu versuchen",
    "look at ComfyUI's console, then try again": "ComfyUIs Konsole ansehen, dann neu versuchen",
    "no ComfyUI answers at {address} ({reason}): start it, or correct the address": "kein ComfyUI antwortet an der "
    "Adresse {address} ({reason}): es starten oder die Adresse berichtigen",
    "not this": "das nicht",
    "somebody interrupted the job on the server": "jemand hat den Auftrag auf dem Server abgebrochen",
    "the ComfyUI at {address} does not have Pullback's nodes: install them there and restart it": "das ComfyUI "
    "{address} hat Pullbacks Knoten nicht: dort installieren und es neu starten",
    "the ComfyUI server at {address} is gone: {reason}": "der ComfyUI-Server {address} ist nicht mehr da: {reason}",
    "the ComfyUI server did not answer as expected: {reason}": "der ComfyUI-Server antwortete nicht wie erwartet: "
    "{reason}",
    "the ComfyUI server does not answer": "der ComfyUI-Server antwortet nicht",
    "the disk is full: 2 GB are needed, with CUDA 7 GB": "die Platte ist voll: es braucht 2 GB, mit CUDA 7 GB",
    "the package index cannot be reached: check the network and try again": "das Verzeichnis der Pakete ist nicht "
    "zu erreichen: das Netz prüfen und neu versuchen",
    "the package index does not have all packages for Blender's Python: make an environment by hand with another Python, "
    "3.10 to 3.13": "das Verzeichnis hat nicht alle Pakete für Blenders Python: von Hand eine Umgebung mit einem "
    "anderen anlegen, von 3.10 bis 3.13",
    "the selected cameras": "die ausgewählten Kameras",
    "the server refused the workflow: {reason}": "der Server wies den Ablauf zurück: {reason}",
    "the server reports success, but its files are missing: are Pullback's nodes up to date?": "der Server "
    "meldete sich fertig, aber seine Dateien sind nicht da: sind Pullbacks Knoten auf dem neuesten Stand?",
    "the worker cannot be started: {python}: {reason}": "der Worker kann nicht gestartet werden: {python}: {reason}",
    "the worker cannot load what it needs: {python} has no module named {module}": "der Worker kann nicht laden, "
    "was er braucht: {python} hat kein Modul namens {module}",
    "the worker ended by itself, with exit code {code}": "der Worker endete von selbst, mit dem Code {code}",
    "the worker has not answered for {seconds:.0f} seconds": "der Worker antwortet seit {seconds:.0f} Sekunden nicht",
    "the worker has not answered for {seconds:.0f} seconds and was stopped": "der Worker antwortete {seconds:.0f} "
    "Sekunden lang nicht und wurde beendet",
    "the worker printed something that is {error}": "der Worker schrieb etwas Unverständliches: {error}",
    "the worker speaks version {theirs} of the protocol and this extension version {ours}: install the extension and "
    "pullback of the same release": "der Worker spricht Version {theirs} des Protokolls und diese Erweiterung Version "
    "{ours}: Erweiterung und Pullback aus derselben Veröffentlichung installieren",
    "the worker was killed (SIGKILL): often the memory ran out": "der Worker wurde getötet (SIGKILL): oft reichte der "
    "Speicher nicht",
    "the worker was killed ({name})": "der Worker wurde getötet ({name})",
    "this Blender uses the system's Python, which lacks venv: install the package python3-venv and try again": ""
    "dieses Blender verwendet das Python des Systems, dem venv fehlt: das Paket python3-venv installieren und neu "
    "versuchen",
    "torch {version}, on {devices}": "torch {version}, auf {devices}",
    "wait, or cancel and look at its console": "warten, oder abbrechen und seine Konsole ansehen",
    "{address!r} is not the address of a server; one looks like http://127.0.0.1:8188": "{address!r} ist keine Adresse "
    "eines Servers; eine sieht aus wie http://127.0.0.1:8188",
    "{address} answered {code} {reason}: is it a ComfyUI?": "{address} antwortete {code} {reason}: ist es ein ComfyUI?",
    "{address} does not answer like a ComfyUI server": "{address} antwortet nicht, wie ein ComfyUI es tut",
    "{address} sent a file of more than {size} MB": "{address} schickte eine Datei von mehr als {size} MB",
    "{command} cannot be started: {reason}": "{command} kann nicht gestartet werden: {reason}",
    "{command} ended with code {code}": "{command} endete mit dem Code {code}",
    "{count} unfinished runs: {runs}": "{count} unfertige Läufe: {runs}",
    "{done}, {minutes}:{seconds:02} left": "{done}, noch {minutes}:{seconds:02}",
    "{name} is not a mesh object any more: convert it back, or generate it again": "{name} ist kein Netzobjekt mehr: "
    "zurückwandeln oder neu erzeugen",
    "{path} cannot be read: {reason}": "{path} kann nicht gelesen werden: {reason}",
    "{path} is not a textured mesh as pullback writes it ({reason})": "{path} ist kein texturiertes Netz, wie "
    "Pullback es schreibt ({reason})",
    "{prompt}, seed {seed}": "{prompt}, Startwert {seed}",
    "{count} of {all} selected have pictures": "{count} von {all} gewählten haben Bilder",
}
CONTEXTS = ("*", "Operator", "Pullback")


def register() -> None:
    """Register every text in three contexts: Blender's for operators, ours for the qualities, and the default for the rest."""
    texts = {(context, english): german for english, german in GERMAN.items() for context in CONTEXTS}
    bpy.app.translations.register(__package__, {"de": texts, "de_DE": texts})


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
