"""Objects from the background images of cameras, with the bpy wheel: lenses, copies, mistakes, the queue and the batch."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bpy_extras.object_utils import world_to_camera_view  # noqa: E402
from mathutils import Matrix, Vector  # noqa: E402
from PIL import Image  # noqa: E402

from blender_addon import batch, jobs, pictures  # noqa: E402
from blender_addon.job import State  # noqa: E402


def camera(name, azimuth, picture=None, distance=5.0):
    """A selected camera that looks at the origin, with a background image from a file or a datablock."""
    obj = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    bpy.context.scene.collection.objects.link(obj)
    eye = distance * Vector((math.sin(azimuth), -math.cos(azimuth), 0.4))
    obj.matrix_world = Matrix.Translation(eye) @ (-eye).to_track_quat("-Z", "Y").to_matrix().to_4x4()
    if picture is not None:
        image = bpy.data.images.load(str(picture)) if isinstance(picture, Path) else picture
        obj.data.background_images.new().image = image
    obj.select_set(True)
    bpy.context.view_layer.update()
    return obj


def photograph(path, mode="RGBA", size=(32, 32), colour=200):
    Image.new(mode, size, colour if mode in ("L", "I;16") else (colour,) * len(mode)).save(path)
    return path


def three(folder):
    return [camera(f"Eye {n}", n * 2.0, photograph(folder / f"view {n}.png")) for n in range(3)]


@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize("frame, method", [((640, 480), "FIT"), ((480, 640), "CROP"), ((640, 300), "STRETCH")])
def test_a_lens_sees_points_where_blender_does(home, fit, frame, method):
    """Whatever the sensor, the shift, the frame and the picture in it."""
    obj = camera("Eye", 0.7)
    lens, scene = obj.data, bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = frame
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = 1.0, 1.25
    lens.sensor_fit, lens.sensor_width, lens.sensor_height = fit, 30.0, 20.0
    lens.lens, lens.shift_x, lens.shift_y = 42.0, 0.1, -0.05
    background = lens.background_images.new()
    background.image, background.frame_method = bpy.data.images.new("a", 200, 100), method
    found = pictures.lens(lens, background, scene.render)
    width, height = frame[0], frame[1] * 1.25
    ratios = np.array([width / 200, height / 100])
    scale = {"FIT": ratios.min() * np.ones(2), "CROP": ratios.max() * np.ones(2), "STRETCH": ratios}[method]
    for point in ((0.1, 0.2, 0.3), (-0.4, 0.1, -0.2), (0.0, 0.0, 0.0)):
        x, y, depth = obj.matrix_world.inverted() @ Vector(point)
        seen = np.array([
            found["fl_x"] * x / -depth + found["cx"], found["fl_y"] * -y / -depth + found["cy"],
        ])  # fmt: skip
        u, v, _ = world_to_camera_view(scene, obj, Vector(point))
        in_frame = np.array([u * width, (1 - v) * height]) - np.array([width, height]) / 2
        assert np.allclose(seen, in_frame / scale + (100, 50), atol=1e-3)


def test_pictures_are_copied_as_they_are(home):
    """Files and packed ones byte by byte, whatever their format; generated and painted ones as they are now."""
    files = [photograph(home / "grey.png", "I;16", colour=40000), photograph(home / "print.tif", "CMYK", colour=90)]
    packed = bpy.data.images.load(str(photograph(home / "packed.jpg", "RGB")))
    packed.pack()
    Path(home / "packed.jpg").rename(home / "gone.jpg")
    painted = bpy.data.images.new("painted", 8, 8, alpha=True)
    painted.pixels = [0.25, 0.5, 0.75, 0.5] * 64
    for n, picture in enumerate([*files, packed, painted]):
        camera(f"Eye {n}", n * 1.5, picture)
    found = pictures.photographs(bpy.context)
    listing = pictures.write(home / "copies", found, bpy.context.scene.render)
    frames = json.loads(listing.read_text())["frames"]
    copies = [listing.parent / frame["file_path"] for frame in frames]
    assert [copy.read_bytes() for copy in copies[:3]] == [each.read_bytes() for each in (*files, home / "gone.jpg")]
    with Image.open(copies[3]) as painting:
        assert painting.size == (8, 8) and abs(painting.getpixel((3, 3))[3] - 128) <= 1
    assert np.allclose(frames[1]["transform_matrix"], bpy.data.objects["Eye 1"].matrix_world)
    assert [frame["w"] for frame in frames] == [32, 32, 32, 8]


def nothing(folder):
    bpy.context.scene.pullback.pictures = str(folder / "none.json")


def bare(folder):
    camera("Bare", 0.0)


def one(folder):
    camera("Only", 0.0, photograph(folder / "a.png"))
    camera("Bare", 1.0)


def together(folder):
    camera("First", 1.0, photograph(folder / "a.png"))
    camera("Second", 1.0, photograph(folder / "b.png"))


def flat(folder):
    three(folder)[1].data.type = "ORTHO"


def turned(folder):
    three(folder)[1].data.background_images[0].rotation = 0.3


def film(folder):
    three(folder)[2].data.background_images[0].image.source = "SEQUENCE"


def missing(folder):
    three(folder)
    (folder / "view 1.png").unlink()


def served(folder):
    three(folder)
    bpy.context.scene.pullback.model = "SERVER"


def unnamed(folder):
    three(folder)
    bpy.context.scene.pullback.pictures_method = "pullback"


@pytest.mark.parametrize(
    "arrange, says",
    [
        (nothing, "none.json does not exist"), (bare, "The camera Bare has no picture"), (one, "Only Only has a picture"),
        (together, "The camera First and all others stand at the same place"), (flat, "The camera Eye 1 has no perspective"),
        (turned, "The picture of Eye 1 is scaled, moved, turned or flipped"), (film, "view 2.png of Eye 2 cannot be read"),
        (missing, "view 1.png"), (served, "Pictures need the worker"), (unnamed, "The method pullback needs a prompt"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_leaves_nothing(home, arrange, says):
    arrange(home)
    with pytest.raises(RuntimeError) as error:
        bpy.ops.pullback.object_from_pictures()
    said = str(error.value).strip()
    assert says in said and "\n" not in said.removeprefix("Error: ")
    assert not jobs.queue and not list(home.rglob("*.pictures"))


def test_nothing_selected_leaves_the_button_grey(home):
    assert not bpy.ops.pullback.object_from_pictures.poll()
    bpy.context.scene.pullback.pictures = "/somewhere/transforms.json"
    assert bpy.ops.pullback.object_from_pictures.poll()


def test_the_object_stands_where_the_cameras_saw_it_and_copies_go(home):
    three(home)
    bpy.context.scene.cursor.location = (4.0, 5.0, 6.0)
    settings = bpy.context.scene.pullback
    settings.prompt, settings.pictures_grid, settings.seed = "left over", 32, 7
    sent = []
    started = jobs.Job.started

    def recorded(job):
        sent.append(started(job))
        assert len(list(Path(sent[0]["options"]["source"]).parent.iterdir())) == 4
        return sent[-1]

    jobs.Job.started = recorded
    try:
        assert bpy.ops.pullback.object_from_pictures() == {"FINISHED"}
    finally:
        jobs.Job.started = started
    (made,) = (obj for obj in bpy.data.objects if obj.type == "MESH")
    assert tuple(made.location) == (0, 0, 0) and made.name == "From Pictures" and made["pullback_model"] == "pixels"
    assert sent[0]["kind"] == "reconstruct" and "prompt" not in sent[0]["settings"]
    assert sent[0]["settings"]["grid"] == 32 and sent[0]["settings"]["seed"] == 7
    assert not jobs.queue and not list(home.rglob("*.pictures"))


def test_copies_stay_while_a_job_can_be_resumed_and_go_when_it_is_dismissed(home):
    three(home)
    bpy.context.scene.pullback.pictures_method, bpy.context.scene.pullback.prompt = "pullback", "a unicorn"
    with pytest.raises(RuntimeError, match="toybox cannot draw this"):
        bpy.ops.pullback.object_from_pictures()
    (job,) = jobs.queue
    assert job.status is State.FAILED and len(list(home.rglob("*.pictures"))) == 1
    jobs.dismiss(job.number)
    assert not list(home.rglob("*.pictures"))


def test_the_batch_takes_a_listing(home, monkeypatch, capfd):
    """Named by its folder; resuming does only what is missing; a .jsonl file has further settings."""
    monkeypatch.setenv("PULLBACK_PYTHON", sys.executable)
    monkeypatch.chdir(home)
    for name in ("chair", "mug"):
        (home / name).mkdir()
        (home / name / "transforms.json").write_text("{}")
    command = ["--pictures", "chair/transforms.json", "--pictures", "mug", "-o", "out/{prompt}-{seed}.glb"]
    assert batch.run(command) == 0, capfd.readouterr().err
    assert sorted(path.name for path in (home / "out").glob("*.glb")) == ["chair-0.glb", "mug-0.glb"]
    (home / "out" / "mug-0.glb").unlink()
    before = (home / "out" / "chair-0.glb").stat().st_mtime_ns
    assert batch.run([*command, "--resume"]) == 0
    assert (home / "out" / "chair-0.glb").stat().st_mtime_ns == before and (home / "out" / "mug-0.glb").exists()
    (home / "jobs.jsonl").write_text(
        '{"kind": "reconstruct", "pictures": "mug", "prompt": "a red mug", "method": "diet"}\n'
    )
    assert batch.run(["--prompts", "jobs.jsonl", "-o", "all.blend"]) == 0
    bpy.ops.wm.open_mainfile(filepath=str(home / "all.blend"))
    (made,) = bpy.context.scene.objects
    assert made.name == "a red mug" and tuple(made.location) == (0, 0, 0)
    for line, says in (('{"kind": "reconstruct"}', '"pictures": "transforms.json"'), ('{"pictures": "a"}', '"prompt"')):
        (home / "jobs.jsonl").write_text(line)
        assert batch.run(["--prompts", "jobs.jsonl", "-o", "all.blend"]) == 2
        assert says in capfd.readouterr().err


def test_the_true_object_comes_back(home, monkeypatch):
    """A toybox house, seen by six cameras of a scene: its bounds within 2 %, by the worker itself."""
    trimesh, torch = pytest.importorskip("trimesh"), pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "core"))
    sys.path.insert(0, str(ROOT / "core"))
    from pullback.generative.toybox.objects import build
    from pullback.generative.toybox.pictures import photograph as taken
    from pullback.geometry.cameras import orbit
    from pullback.photographs import write_transforms

    true, rgb = build("house", "red", None, None, np.random.default_rng(0))
    steep = math.radians(88)
    azimuth, elevation = torch.tensor([0, 0.5, 1, 1.5, 0, 0]) * math.pi, torch.tensor([0, 0, 0, 0, steep, -steep])
    around = orbit(azimuth, elevation, 20.0, math.radians(6))
    (home / "taken").mkdir()
    seen = torch.from_numpy(taken(true, rgb, around, 96)[:, 3:]).float() / 255
    write_transforms(home / "taken", around, seen)
    scene = bpy.context.scene
    scene.render.resolution_x = scene.render.resolution_y = 96
    move = Matrix.Translation((5.0, 0.0, 1.0)) @ Matrix.Scale(2.0, 4)
    for n in range(6):
        obj = camera(f"Eye {n}", 0.0, home / "taken" / f"{n:03d}.png")
        pose = Matrix(around.pose[n].tolist())
        obj.matrix_world = Matrix.Translation(move @ pose.translation) @ pose.to_3x3().to_4x4()
        obj.data.lens = obj.data.sensor_width / 2 / math.tan(float(around.fov[n]) / 2)
    bpy.context.view_layer.update()
    settings = scene.pullback
    settings.pictures_grid, settings.pictures_steps, settings.pictures_finetune, settings.texture = 48, 50, 10, 256
    bpy.ops.pullback.object_from_pictures()
    (made,) = (obj for obj in bpy.data.objects if obj.type == "MESH")
    points = np.array([vertex.co for vertex in made.data.vertices])
    bounds = (np.stack([points.min(0), points.max(0)]) - (5.0, 0.0, 1.0)) / 2
    assert np.abs(bounds - true.bounds).max() < 0.02 * np.ptp(true.bounds, axis=0).max()
    assert trimesh.Trimesh(points, [list(face.vertices) for face in made.data.polygons]).is_watertight
    shutil.rmtree(home / "taken")
