"""Texture baking: the texture that makes a mesh look like its pictures, in the least-squares sense.

A *texel* is one of the T cells of the texture that a chart touches; it stands for a point on a face. Pixel p of a
picture has the colour c_p, and is modelled as the mean (A x)_p of the texels that project into it. The baked texture is

    x = argmin  sum_p w_p |(A x)_p - c_p|^2 + PULL (sum_p w_p / T) sum_t |x_t - s_t|^2

over the pixels of all views. The weight w_p = (cosine of the viewing angle)^2 alpha^8 is reduced near silhouettes, and 0
where the surface is hidden. The start s_t is the weighted mean of the colours that the views show at the texel. Pictures are
premultiplied RGBA (B, 4, H, W) in the display range [0, 1]. Row 0 of a texture is on top (v = 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from scipy import ndimage, sparse, spatial
from torch import Tensor

from ..geometry.cameras import Cameras
from .unwrap import coordinates

FACING = 0.15
"""The smallest cosine of a viewing angle that counts. At smaller cosines a pixel covers more than six times its width."""
ALPHA_POWER = 8
"""Power of alpha in the weight of a pixel: an alpha of 0.95 counts two thirds, one of 0.7 a twentieth."""
SILHOUETTE = 0.05
"""Factor on the weight of pixels at a jump in depth, whose colour may mix two surfaces."""
SEEN = 1e-2
"""Total weight below which a texel counts as unseen and takes the colour of a neighbour."""
PULL = 1.0
"""Strength with which the texture is pulled to the start. At 1, the error of fine detail is a third smaller than at the start,
and that of smooth colour a tenth larger. With a weaker pull, detail that the pictures do not resolve is sharpened."""
STEPS = 8
"""Steps of conjugate gradients."""
CANDIDATES = 1 << 20
"""Pairs of pixel and face that are tested at a time; bounds the memory."""


@dataclass(frozen=True)
class _Texels:
    """The T texels that charts touch.

    Attributes:
        index: Their indices in the flat texture, (T,).
        face: The faces that they lie on, (T,).
        point: Their points on the surface, (T, 3) in the world.
    """

    index: np.ndarray
    face: np.ndarray
    point: np.ndarray


@dataclass(frozen=True)
class _Sight:
    """What one view shows of the texture.

    Attributes:
        texel: The n visible texels, (n,).
        pixel: The flat index of the pixel that each texel falls into, (n,).
        weight: Their weights, (n,).
        cosine: The cosines of their viewing angles, (n,).
        colour: The picture's straight colour at each texel, interpolated, (n, 3).
        shown: The picture's straight colour in the texel's pixel, (n, 3).
    """

    texel: np.ndarray
    pixel: np.ndarray
    weight: np.ndarray
    cosine: np.ndarray
    colour: np.ndarray
    shown: np.ndarray


def bake(
    mesh_with_uv: trimesh.Trimesh,
    cameras: Cameras,
    pictures: Tensor,
    size: int = 1024,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Bake the texture that best explains pictures of a mesh. Deterministic, and not differentiable.

    Where no view sees the surface, it takes the colour of the nearest visible part that faces a similar way. Outside the
    charts the texture repeats the nearest chart, so that filtering and mipmaps show no seams.

    Args:
        mesh_with_uv: The mesh in world coordinates, with `visual.uv` in [0, 1] and charts that do not overlap.
        cameras: B cameras.
        pictures: Their pictures, premultiplied RGBA (B, 4, H, W) in [0, 1].
        size: Side of the texture in pixels.
        tick: Called often; it may raise to stop.

    Returns:
        The texture, (size, size, 3) uint8.

    Raises:
        ValueError: If the mesh has no uv, the pictures have another shape, or they show nothing of the mesh.
    """
    if pictures.ndim != 4 or pictures.shape[:2] != (len(cameras), 4):
        raise ValueError(f"pictures must be ({len(cameras)}, 4, H, W), got {tuple(pictures.shape)}")
    texels = _texels(mesh_with_uv, size, tick)
    pictures = pictures.detach().to("cpu", torch.float32)
    cameras = cameras.to("cpu", torch.float64)
    sights = [_sight(mesh_with_uv, texels, cameras[b : b + 1], pictures[b], tick) for b in range(len(cameras))]
    start, total = _mean(sights, len(texels.index))
    seen = total > SEEN
    if not seen.any():
        raise ValueError(
            "the pictures show nothing of the mesh: give a mesh of the same field, in the same place and of the same size"
        )
    neighbour = _nearest(mesh_with_uv, texels, seen)
    start[~seen] = start[neighbour]
    colour = _solve(sights, start, tick)
    colour[~seen] = colour[neighbour]
    return _picture(texels.index, colour, size)


def painted(mesh_with_uv: trimesh.Trimesh, colours: Callable[[np.ndarray], np.ndarray], size: int = 1024) -> np.ndarray:
    """Return the texture of a surface that has a colour at every point, (size, size, 3) uint8.

    Args:
        mesh_with_uv: The mesh, as in `bake`.
        colours: Maps points of the surface (n, 3) to display RGB (n, 3) in [0, 1].
        size: Side of the texture in pixels.
    """
    texels = _texels(mesh_with_uv, size)
    return _picture(texels.index, colours(texels.point), size)


def project(cameras: Cameras, points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Project world points into pictures, the inverse of `rays`. Differentiable, but not finite at the depth of the pinhole.

    Args:
        cameras: B cameras.
        points: World points (N, 3).
        height: Height of the pictures in pixels.
        width: Width of the pictures.

    Returns:
        Positions (B, N, 2) as x, y in pixels from the top left corner, where the pixel in row i and column j is centred on
        (j + 1/2, i + 1/2), and depths (B, N) along the view's axis, positive in front of the camera.
    """
    local = (points - cameras.position[:, None]) @ cameras.pose[:, :3, :3]
    depth = -local[..., 2]
    flat = local[..., :2] / (depth * torch.tan(cameras.fov / 2)[:, None])[..., None]
    return torch.stack([width + height * flat[..., 0], height - height * flat[..., 1]], dim=-1) / 2, depth


def _texels(mesh: trimesh.Trimesh, size: int, tick: Callable[[], None] = lambda: None) -> _Texels:
    """Return the texels that a chart touches, each with the nearest point of its triangle."""
    corners = coordinates(mesh)[mesh.faces] * (size, -size) + (0.0, size)
    # Half a diagonal beyond an edge, so that no texel that a triangle touches is missed. A texel whose centre lies in a
    # triangle belongs to it; only texels at the border compete by distance.
    reach = 0.5**0.5
    _, face, inside = _rasterise(corners, size, size, reach, lambda face, inside, away: np.maximum(away, 0.0), tick)
    index = np.flatnonzero(face >= 0)
    face, inside = face[index], np.clip(inside[index], 0.0, None)
    inside /= inside.sum(axis=1, keepdims=True)
    return _Texels(index, face, np.einsum("nk,nki->ni", inside, mesh.triangles[face]))


def _rasterise(
    corners: np.ndarray,
    height: int,
    width: int,
    reach: float,
    cost: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    tick: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find for every pixel the triangle of least cost among those within `reach` of its centre.

    Args:
        corners: Corners of the F triangles, (F, 3, 2) as x, y in pixels from the top left.
        height: Height of the picture.
        width: Width of the picture.
        reach: How far a pixel's centre may lie outside a triangle, in pixels.
        cost: Maps faces (n,), barycentric coordinates (n, 3), and distances beyond the nearest edge line (n,), negative
            inside, to costs (n,).
        tick: Called often; it may raise to stop.

    Returns:
        For each flat pixel the least cost, its face, and the barycentric coordinates; inf, -1 and 0 if there is no triangle.
    """
    best = np.full(height * width, np.inf)
    winner = np.full(height * width, -1)
    coordinates = np.zeros((height * width, 3))
    gradient, altitude = _gradients(corners)
    # Minima over the outer axis: over an inner axis of length 3, numpy is ten times slower.
    lowest, highest = (bound.reduce(corners.transpose(1, 0, 2)) for bound in (np.minimum, np.maximum))
    low = np.clip(np.ceil(lowest - reach - 0.5), 0, (width, height)).astype(np.int64)
    high = np.clip(np.floor(highest + reach - 0.5), -1, (width - 1, height - 1)).astype(np.int64)
    span = np.maximum(high - low + 1, 0) * (altitude[:, :1] > 0)
    for faces in _batches(span[:, 0] * span[:, 1]):
        tick()
        face, x, y = _boxes(faces, low, span)
        offset = np.stack([x + 0.5, y + 0.5], axis=1) - corners[face, 0]
        tail = np.einsum("nki,ni->nk", gradient[face], offset)
        inside = np.concatenate([1 - tail[:, :1] - tail[:, 1:], tail], axis=1)
        away = -np.minimum.reduce(list((inside * altitude[face]).T))
        near = np.flatnonzero(away <= reach)
        face, inside, pixel = face[near], inside[near], (y * width + x)[near]
        costs = cost(face, inside, away[near])
        np.minimum.at(best, pixel, costs)
        won = np.flatnonzero(costs == best[pixel])
        winner[pixel[won]], coordinates[pixel[won]] = face[won], inside[won]
    return best, winner, coordinates


def _gradients(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of the last two barycentric coordinates, (F, 2, 2), and the altitudes (F, 3), 0 if degenerate."""
    (ux, uy), (vx, vy) = (corners[:, k].T - corners[:, 0].T for k in (1, 2))
    area = ux * vy - uy * vx
    flat = np.abs(area) < 1e-12
    inverse = np.stack([vy, -vx, -uy, ux], axis=1).reshape(-1, 2, 2) / np.where(flat, 1.0, area)[:, None, None]
    opposite = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]
    lengths = np.sqrt(np.einsum("fki,fki->fk", opposite, opposite))
    return inverse, np.where(flat, 0.0, np.abs(area))[:, None] / np.maximum(lengths, 1e-12)


def _batches(counts: np.ndarray) -> list[np.ndarray]:
    """Return the faces with at least one candidate pixel, in groups of about CANDIDATES pixels."""
    faces = np.flatnonzero(counts)
    group = np.cumsum(counts[faces]) // CANDIDATES
    return np.split(faces, np.flatnonzero(np.diff(group)) + 1) if len(faces) else []


def _boxes(faces: np.ndarray, low: np.ndarray, span: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pixels of the faces' bounding boxes, as face, x and y."""
    counts = span[faces, 0] * span[faces, 1]
    face = np.repeat(faces, counts)
    step = np.arange(len(face)) - np.repeat(np.cumsum(counts) - counts, counts)
    y, x = np.divmod(step, span[face, 0])
    return face, low[face, 0] + x, low[face, 1] + y


def _sight(
    mesh: trimesh.Trimesh, texels: _Texels, camera: Cameras, picture: Tensor, tick: Callable[[], None]
) -> _Sight:
    """Return the texels that one view shows, with their colours and weights."""
    height, width = picture.shape[1:]
    texel, cosine = _facing(mesh, texels, camera)
    position, depth = _positions(camera, texels.point[texel], height, width)
    x, y = position.T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth > 0)
    texel, cosine, position, depth = texel[inside], cosine[inside], position[inside], depth[inside]
    pixel = position[:, 1].astype(np.int64) * width + position[:, 0].astype(np.int64)

    nearest = _depths(mesh, camera, height, width, tick)
    # A texel lies up to half a diagonal from its pixel's centre, where the depth was taken: allow for the slope.
    pitch = depth * (2 * np.tan(camera.fov.item() / 2) / height)
    slack = pitch * (0.5 + np.sqrt(0.5 * (1 - np.minimum(cosine, 1.0) ** 2)) / cosine)
    visible = depth <= nearest[pixel] + slack
    silhouette = (_jumps(nearest, height, width)[pixel] > 4 * slack)[visible]
    texel, cosine, position, pixel = texel[visible], cosine[visible], position[visible], pixel[visible]

    colour, alpha = _straight(_bilinear(picture, position))
    shown, _ = _straight(picture.reshape(4, -1).T.numpy()[pixel])
    weight = cosine**2 * alpha**ALPHA_POWER * np.where(silhouette, SILHOUETTE, 1.0)
    return _Sight(texel, pixel, weight, cosine, colour, shown)


def _facing(mesh: trimesh.Trimesh, texels: _Texels, camera: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Return the texels that face the camera, and the cosines of their viewing angles."""
    eye = camera.position[0].numpy()
    # The cosine at a point is the height of the eye above the plane of the face, divided by the distance from eye to point.
    above = np.einsum("fi,fi->f", eye - mesh.triangles[:, 0], mesh.face_normals)[texels.face]
    texel = np.flatnonzero(above > 0)
    toward = eye - texels.point[texel]
    cosine = above[texel] / np.sqrt(np.einsum("ni,ni->n", toward, toward))
    return texel[cosine > FACING], cosine[cosine > FACING]


def _positions(camera: Cameras, points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of `project` for one camera as arrays, (n, 2) and (n,)."""
    position, depth = project(camera, torch.from_numpy(np.array(points)), height, width)
    return position[0].numpy(), depth[0].numpy()


def _depths(
    mesh: trimesh.Trimesh, camera: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Return the depth of the nearest surface at the centre of each pixel, (H W,), inf where there is none.

    Faces that reach behind the camera are left out.
    """
    corners, depth = _positions(camera, mesh.vertices, height, width)
    faces = np.asarray(mesh.faces)[(depth > 1e-6)[mesh.faces].all(axis=1)]
    inverse = 1 / np.where(depth > 1e-6, depth, 1.0)[faces]

    def depth_at(face: np.ndarray, inside: np.ndarray, away: np.ndarray) -> np.ndarray:
        return 1 / np.einsum("nk,nk->n", inside, inverse[face])  # 1 / depth is linear on the screen

    return _rasterise(corners[faces], height, width, 1e-9, depth_at, tick)[0]


def _jumps(depths: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the range of depth among each pixel and its eight neighbours, (H W,).

    The background and everything outside the picture count as far away.
    """
    finite = np.where(np.isinf(depths), 1e6, depths).reshape(height, width)
    far = ndimage.maximum_filter(finite, 3, mode="constant", cval=1e6)
    return (far - ndimage.minimum_filter(finite, 3, mode="nearest")).reshape(-1)


def _bilinear(picture: Tensor, position: np.ndarray) -> np.ndarray:
    """Return a picture (4, H, W), interpolated at positions (n, 2) in pixels, as (n, 4)."""
    scale = torch.tensor([picture.shape[2], picture.shape[1]])
    grid = 2 * torch.from_numpy(position).float() / scale - 1
    sampled = torch.nn.functional.grid_sample(
        picture[None], grid[None, None], padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T.numpy()


def _straight(rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the straight colours (n, 3) and the alpha (n,) of premultiplied RGBA (n, 4)."""
    alpha = np.clip(rgba[:, 3], 0.0, 1.0)
    return np.clip(rgba[:, :3] / np.maximum(alpha, 1e-3)[:, None], 0.0, 1.0), alpha


def _mean(sights: list[_Sight], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of what the views show at each texel, (T, 3), and the total weight, (T,)."""
    total = np.zeros(count)
    colour = np.zeros((count, 3))
    for sight in sights:  # a view sees every texel at most once, so plain indexed sums are safe
        total[sight.texel] += sight.weight
        colour[sight.texel] += sight.weight[:, None] * sight.colour
    return colour / np.maximum(total, 1e-12)[:, None], total


def _solve(sights: list[_Sight], start: np.ndarray, tick: Callable[[], None]) -> np.ndarray:
    """Return the least-squares texture (T, 3) of the module's docstring, by conjugate gradients from the start."""
    blocks, residuals = zip(*(_equations(sight, start) for sight in sights), strict=True)
    matrix = sparse.vstack(blocks, format="csr")
    transposed = matrix.T.tocsr()
    # Each row of A sums to one, so the entries of A' W A sum to the total weight of all pixels.
    pull = PULL * np.float32((transposed @ matrix.sum(axis=1)).mean())

    def normal(x: np.ndarray) -> np.ndarray:
        tick()
        return transposed @ (matrix @ x) + pull * x

    step = _conjugate(normal, transposed @ np.concatenate(residuals), STEPS)
    return np.clip(start + step, 0.0, 1.0)


def _equations(sight: _Sight, start: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return the rows sqrt(w_p) A_p (P, T) and right-hand sides sqrt(w_p) (c_p - A_p s) (P, 3) for one view's pixels."""
    _, first, row = np.unique(sight.pixel, return_index=True, return_inverse=True)
    # Texels have nearly equal area on the surface, so the cosine is their share of the pixel.
    share = sight.cosine / np.bincount(row, sight.cosine)[row]
    scale = np.sqrt(np.bincount(row, share * sight.weight))
    values = (scale[row] * share).astype(np.float32)
    matrix = sparse.csr_matrix((values, (row, sight.texel)), shape=(len(first), len(start)))
    return matrix, (scale[:, None] * sight.shown[first] - matrix @ start).astype(np.float32)


def _conjugate(normal: Callable[[np.ndarray], np.ndarray], target: np.ndarray, steps: int) -> np.ndarray:
    """Solve normal(x) = target (T, K) by conjugate gradients from zero, separately for each of the K columns."""
    x, residual = np.zeros_like(target), target.copy()
    direction, square = residual.copy(), (residual**2).sum(axis=0)
    for _ in range(steps):
        image = normal(direction)
        length = square / np.maximum((direction * image).sum(axis=0), 1e-30)
        x += length * direction
        residual -= length * image
        previous, square = square, (residual**2).sum(axis=0)
        direction = residual + square / np.maximum(previous, 1e-30) * direction
    return x


def _nearest(mesh: trimesh.Trimesh, texels: _Texels, seen: np.ndarray) -> np.ndarray:
    """Return the index of the nearest seen texel for every unseen one."""
    # The normal is added as three more coordinates, so that the other side of a thin sheet is far away.
    place = np.concatenate([texels.point, 0.2 * mesh.face_normals[texels.face]], axis=1)
    nearest = spatial.cKDTree(place[seen], balanced_tree=False).query(place[~seen])[1]
    return np.flatnonzero(seen)[nearest]


def _picture(index: np.ndarray, colour: np.ndarray, size: int) -> np.ndarray:
    """Return the texture (size, size, 3) uint8: texels in their places, and the nearest texel everywhere else."""
    texture = np.zeros((size * size, 3), dtype=np.uint8)
    texture[index] = np.round(255 * colour).astype(np.uint8)
    outside = np.ones(size * size, dtype=bool)
    outside[index] = False
    row, column = ndimage.distance_transform_edt(
        outside.reshape(size, size), return_distances=False, return_indices=True
    )
    return texture.reshape(size, size, 3)[row, column]
