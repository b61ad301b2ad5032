"""Photographs with poses: conventions of the formats, lenses, the ball of the object, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from pullback.geometry.cameras import Cameras, look_at, orbit, rays
from pullback.photographs import (
    Lens,
    gathered,
    posed,
    projected,
    read_photographs,
    rectified,
    write_transforms,
)

SHIFT, SCALE = torch.tensor([3.0, -2.0, 5.0]), 4.0
AROUND = orbit(torch.arange(6) * math.pi / 3, torch.tensor([0.1, 0.5, -0.3, 0.9, 0.2, 0.4]))
POINTS = torch.tensor([[0.1, -0.2, 0.3], [-0.4, 0.1, 0.2], [0.0, 0.0, 0.0]])


def scene() -> Cameras:
    """The cameras around an object that is 4 times as large and lies elsewhere."""
    pose = AROUND.pose.clone()
    pose[:, :3, 3] = SCALE * pose[:, :3, 3] + SHIFT
    return Cameras(pose, AROUND.fov)


def ball(cameras, size=48, radius=0.5, middle=(0.0, 0.0, 0.0)):
    """Silhouettes of a ball, premultiplied RGBA (B, 4, size, size), without anti-aliasing."""
    o, d = rays(cameras, size, size)
    away = torch.tensor(middle) - o
    hit = (away.square().sum(-1) - (away * d).sum(-1) ** 2) < radius**2
    return hit[:, None].float().expand(-1, 4, -1, -1).contiguous()


@pytest.fixture
def folder(tmp_path):
    write_transforms(tmp_path, scene(), ball(AROUND))
    return tmp_path


def changed(folder, change):
    """Change the listing of a folder in place, and return its path."""
    path = folder / "transforms.json"
    listing = json.loads(path.read_text())
    change(listing)
    path.write_text(json.dumps(listing))
    return path


def test_a_camera_sees_the_point_of_a_ray_where_the_ray_starts():
    """The two ways through a camera are inverse to each other."""
    for n in range(len(AROUND)):
        o, d = (each[0] for each in rays(AROUND[n : n + 1], 8, 8))
        x, y, depth = projected(AROUND[n : n + 1], (o + 2.7 * d).reshape(-1, 3))
        line = (2 * torch.arange(8) + 1) / 8 - 1
        assert torch.allclose(x.view(8, 8), line.expand(8, 8), atol=1e-5) and (depth > 0).all()
        assert torch.allclose(y.view(8, 8), -line[:, None].expand(8, 8), atol=1e-5)


def test_the_unit_ball_leads_back_to_the_scene(folder):
    photographs = read_photographs(folder / "transforms.json", front=30.0)
    back = photographs.placement.scene(photographs.cameras.to(torch.float64))
    assert torch.allclose(back.pose.float(), scene().pose, atol=1e-4)
    points = POINTS.double() @ photographs.placement.matrix[:3, :3].T + photographs.placement.centre
    for n in range(len(AROUND)):  # a point of the ball is seen where its place in the scene was seen
        here = projected(photographs.cameras[n : n + 1], POINTS)
        there = projected(scene()[n : n + 1], points.float())
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(here[:2], there[:2], strict=True))


def test_the_ball_around_the_object_is_found_from_its_masks(folder):
    placement = read_photographs(folder / "transforms.json").placement
    assert (placement.centre - SHIFT).norm() < 0.05 * SCALE
    assert 0.5 * SCALE <= placement.radius < 0.8 * SCALE  # the hull of six silhouettes is larger than the ball


def test_a_ball_beside_the_middle_is_found_where_it_is(tmp_path):
    middle = torch.tensor([0.25, -0.1, 0.2])
    path = write_transforms(tmp_path, scene(), ball(AROUND, radius=0.3, middle=middle.tolist()))
    placement = read_photographs(path).placement
    assert (placement.centre - (SHIFT + SCALE * middle)).norm() < 0.08 * SCALE
    assert 0.3 * SCALE <= placement.radius < 0.5 * SCALE


def test_the_pictures_come_back_as_they_were_written(folder):
    photographs = read_photographs(folder / "transforms.json")
    assert photographs.kind == "rgba" and photographs.seen.all() and len(photographs) == 6
    assert torch.allclose(photographs.pictures, ball(AROUND), atol=1e-4)
    assert torch.allclose(photographs.cameras.fov, AROUND.fov)


def test_front_turns_the_object_towards_minus_y(folder):
    plain, turned = (read_photographs(folder / "transforms.json", front=front).cameras for front in (0.0, 60.0))
    # The camera at azimuth 60 degrees looks at the front of the turned object.
    assert torch.allclose(turned.azimuth[1], plain.azimuth[0], atol=1e-5)


def test_camera_angle_x_is_the_angle_over_the_width(folder):
    def change(listing):
        for frame in listing["frames"]:
            del frame["fl_x"], frame["fl_y"]
        del listing["w"], listing["h"]
        listing["camera_angle_x"] = float(AROUND.fov[0])

    photographs = read_photographs(changed(folder, change))
    assert torch.allclose(photographs.cameras.fov, AROUND.fov, atol=1e-6)


def colmap(folder, distortion=(0.0, 0.0, 0.0, 0.0)):
    """Write the same pictures as COLMAP does: world to camera, +Y down, -Z behind."""
    (folder / "images").mkdir()
    height = width = 48
    focal = 0.5 * height / math.tan(float(AROUND.fov[0]) / 2)
    numbers = " ".join(map(str, (focal, focal, width / 2, height / 2, *distortion)))
    (folder / "cameras.txt").write_text(f"# cameras\n1 OPENCV {width} {height} {numbers}\n")
    lines = ["# images"]
    for n, (pose, picture) in enumerate(zip(scene().pose.double(), ball(AROUND), strict=True)):
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
        rotation = (pose[:3, :3] @ flip).T
        shift = -rotation @ pose[:3, 3]
        values, vectors = torch.linalg.eig(rotation)
        axis = vectors[:, (values.real - 1).abs().argmin()].real
        cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        sin, cos = float((rotation * cross).sum() / 2), float((rotation.trace() - 1) / 2)
        half = math.atan2(sin, cos) / 2
        quaternion = [math.cos(half), *(math.sin(half) * axis).tolist()]
        lines += [" ".join(map(str, (n + 1, *quaternion, *shift.tolist(), 1, f"{n}.png"))), ""]
        Image.fromarray((picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(folder / "images" / f"{n}.png")
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_colmap_s_cameras_are_the_same_cameras(tmp_path):
    photographs = read_photographs(colmap(tmp_path))
    back = photographs.placement.scene(photographs.cameras.to(torch.float64))
    assert torch.allclose(back.pose.float(), scene().pose, atol=1e-4)
    assert torch.allclose(photographs.cameras.fov, AROUND.fov, atol=1e-6)
    up = AROUND.pose[:, :3, 1].mean(0)  # on the whole, photographs are taken upright
    assert torch.allclose(photographs.placement.rotation[:, 2].float(), up / up.norm(), atol=1e-5)


def test_a_lens_that_is_not_in_the_middle_and_distorts_is_undone():
    """Paint each pixel with the direction that it sees: an ideal camera sees these directions on a grid."""
    lens, size = Lens((60.0, 50.0), (38.0, 20.0), (0.05, 0.01, 0.002, -0.003)), 64
    x, y = torch.meshgrid(torch.linspace(-1.2, 1.2, 400), torch.linspace(-1.2, 1.2, 400), indexing="xy")
    u, v = lens.pixels(x, y)
    picture = torch.zeros(4, 48, 64)
    for direction, row in ((x, 0), (y, 1)):  # the mean of the directions that fall into a pixel
        inside = (u >= 0) & (u < 64) & (v >= 0) & (v < 48)
        place = v[inside].long() * 64 + u[inside].long()
        total = torch.zeros(48 * 64).index_add(0, place, direction[inside])
        picture[row] = (total / torch.bincount(place, minlength=48 * 64).clamp(min=1)).view(48, 64)
    seen_picture, seen, fov = rectified(picture, lens, size)
    half = math.tan(fov / 2)
    assert half == pytest.approx(max(38 / 60, 28 / 50))
    line = ((2 * torch.arange(size) + 1) / size - 1) * half
    inner = seen[0].clone()
    inner[:3] = inner[-3:] = inner[:, :3] = inner[:, -3:] = False
    shrunk = -torch.nn.functional.max_pool2d(-inner[None, None].float(), 5, 1, 2)[0, 0] > 0.5
    assert shrunk.sum() > 1000 and not seen.all()
    assert (seen_picture[0] - line)[shrunk].abs().max() < 0.02
    assert (seen_picture[1] - line[:, None])[shrunk].abs().max() < 0.02


@pytest.mark.parametrize("mode, value", [("I;16", 65535), ("CMYK", (0, 0, 0, 0)), ("L", 255), ("RGB", (255, 255, 255))])
def test_files_of_every_kind_are_read(folder, mode, value):
    """White pictures, with masks beside them, because these files have no alpha."""

    def change(listing):
        for n, frame in enumerate(listing["frames"]):
            suffix = "jpg" if mode == "CMYK" else "png"
            white = (
                Image.fromarray(np.full((96, 96), value, np.uint16))
                if mode == "I;16"
                else Image.new(mode, (96, 96), value)
            )
            white.save(folder / f"white{n}.{suffix}")
            Image.open(folder / frame["file_path"]).getchannel("A").resize((96, 96), 0).save(folder / f"mask{n}.png")
            frame |= {"mask_path": f"mask{n}.png", "file_path": f"white{n}.{suffix}"}

    pictures = read_photographs(changed(folder, change), 48).pictures
    assert (pictures - ball(AROUND)).abs().mean() < 0.02


def test_pictures_of_different_sizes_become_alike(folder):
    for n, side in enumerate((48, 96, 200)):
        path = folder / f"{n:03d}.png"
        Image.open(path).resize((side, side), 0).save(path)
    photographs = read_photographs(folder / "transforms.json", 48)
    assert photographs.pictures.shape == (6, 4, 48, 48)
    assert (photographs.pictures - ball(AROUND)).abs().mean() < 0.03


def test_without_masks_the_ball_is_what_all_cameras_see():
    photographs = gathered(scene(), torch.ones(6, 4, 16, 16))
    assert photographs.kind == "rgb" and (photographs.placement.centre - SHIFT).norm() < 1e-3
    distance = photographs.cameras.position.norm(dim=-1)
    assert torch.allclose(distance.min() * torch.sin(photographs.cameras.fov[0] / 2), torch.ones(()), atol=1e-4)


def no_pose(listing):
    del listing["frames"][2]["transform_matrix"]


def no_picture(listing):
    del listing["frames"][2]["file_path"]


def one(listing):
    listing["frames"] = listing["frames"][:1]


def same(listing):
    for frame in listing["frames"]:
        frame["transform_matrix"] = listing["frames"][0]["transform_matrix"]


def missing(listing):
    listing["frames"][3]["file_path"] = "gone.png"


def outside(listing):
    listing["frames"][3]["file_path"] = "../gone.png"


def mirrored(listing):
    listing["frames"][1]["transform_matrix"][0] = [-x for x in listing["frames"][1]["transform_matrix"][0]]


def fisheye(listing):
    listing["camera_model"] = "OPENCV_FISHEYE"


def no_angle(listing):
    for frame in listing["frames"]:
        del frame["fl_x"], frame["fl_y"]


def swapped(listing):
    aside = look_at(torch.tensor([[43.0, -2.0, 5.0]]), torch.tensor([3.0, 9.5, 5.0]))  # sees the object at its edge
    listing["frames"][4]["transform_matrix"] = aside.pose[0].tolist()


@pytest.mark.parametrize(
    "change, says",
    [
        (no_pose, r"frame 3 of .*transforms.json, 002.png, has no pose"),
        (no_picture, r"frame 3 of .*transforms.json has a camera but no picture"),
        (one, r"transforms.json has one picture"),
        (same, r"all cameras of .*transforms.json stand at the same place"),
        (missing, r"the picture .*gone.png is missing: frame 4 of .*transforms.json"),
        (outside, r"frame 4 of .*transforms.json names '../gone.png', which lies outside"),
        (mirrored, r"frame 2 of .*transforms.json, .*001.png, has a pose that is no rotation"),
        (fisheye, r"OPENCV_FISHEYE, which is not supported"),
        (no_angle, r"camera_angle_x or fl_x is missing"),
        (swapped, r"the masks of the pictures do not meet in space: .* most likely of .*004.png"),
    ],
)
def test_bad_input_is_named(folder, change, says):
    with pytest.raises(ValueError, match=says) as error:
        read_photographs(changed(folder, change))
    assert "\n" not in str(error.value)


def test_pictures_in_memory_are_read_as_those_in_files(folder):
    text, pictures = (folder / "transforms.json").read_text(), ball(AROUND)
    there, here = read_photographs(folder / "transforms.json"), posed(text, pictures)
    assert here.fingerprint == there.fingerprint
    listing = json.loads(text) | {"ball": [*SHIFT.tolist(), 3.0]}
    assert posed(json.dumps(listing), pictures).placement.radius == 3.0


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda listing: listing["frames"].pop(), "cameras has 5 frames and there are 6 pictures"),
        (lambda listing: listing.update(frames=[]), "cameras has no list of frames"),
        (lambda listing: listing["frames"][2].pop("transform_matrix"), "frame 3 of cameras, has no pose"),
        (lambda listing: listing.update(ball=[1, 2]), r"the ball is \[1, 2\]; it must be four numbers"),
    ],
)
def test_cameras_that_do_not_suit_pictures_in_memory_are_refused(folder, change, says):
    listing = json.loads((folder / "transforms.json").read_text())
    change(listing)
    with pytest.raises(ValueError, match=says):
        posed(json.dumps(listing), ball(AROUND))


def test_a_folder_of_pictures_without_poses_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg and the other pictures of .* have no poses"):
        read_photographs(tmp_path)


def test_a_broken_picture_and_a_picture_without_a_mask_are_named(folder):
    Image.open(folder / "003.png").convert("RGB").save(folder / "003.png")
    with pytest.raises(ValueError, match=r"003\.png has no mask"):
        read_photographs(folder / "transforms.json")
    (folder / "003.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"003\.png is no picture"):
        read_photographs(folder / "transforms.json")
