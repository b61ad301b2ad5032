"""Known pictures: what views see of them, how a field starts from one, and that a part of it is kept."""

from __future__ import annotations

import math

import pytest
import torch
from pullback.diffreps.image import PixelGrid, SirenImage
from pullback.diffreps.panorama import SirenCylinder, SirenSphere
from pullback.geometry.cameras import rays
from pullback.geometry.sphere import equirectangular, headings
from pullback.known import Known
from pullback.noise import CanvasViews, FixedViews
from pullback.pull import Pull, start
from pullback.schedules import log_linear, repaint
from pullback.solvers import Adam

RANDOM = lambda seed=0: torch.Generator().manual_seed(seed)


def waves(directions):
    """A smooth function of the direction, (..., 3) to (..., 2)."""
    x, y, z = directions.unbind(-1)
    return torch.stack([torch.sin(2 * x + z), torch.cos(3 * y - x)], -1)


def test_a_sphere_s_views_see_the_picture_in_their_directions():
    known = Known(SirenSphere(2, 32), waves(equirectangular(128, 256)).movedim(-1, 0))
    view = headings(torch.tensor([0.0, math.pi, 2.0]), torch.tensor([0.2, -0.4, 0.9]), 1.0)  # one across the seam
    expected = waves(rays(view.cameras, 32, 32)[1]).movedim(-1, 1)
    assert (known.in_views(known.picture, view) - expected).abs().max() < 2e-3


def test_a_cylinder_s_views_see_the_columns_that_they_cover():
    strip, canvas = SirenCylinder(3, 8, 32), CanvasViews(3, 8, 32, 4)
    known = Known(strip, torch.randn(3, 8, 32, generator=RANDOM()))
    view = canvas.draw(RANDOM(1))
    assert torch.allclose(known.in_views(known.picture, view), canvas.carried(known.picture, view), atol=1e-5)


@pytest.mark.parametrize(
    "diffrep, shape, says",
    [
        (PixelGrid((1, 3, 8, 8)), (3, 8, 9), "8 x 9 values and the field 8 x 8"),
        (SirenImage(3, (8, 16)), (3, 16, 8), "16 x 8 values and the field 8 x 16"),
        (SirenSphere(3, 8), (3, 8, 24), "3 times as wide"),
        (SirenCylinder(3, 8, 32), (3, 8, 16), "2 times as wide as high and the field 4"),
    ],
)
def test_a_picture_of_another_shape_is_refused(diffrep, shape, says):
    with pytest.raises(ValueError, match=says):
        Known(diffrep, torch.zeros(shape))


def test_a_run_starts_from_the_picture_itself_whatever_the_field_can_draw():
    """What the fit misses is carried: the model's first input is the picture with noise."""
    siren, picture = SirenImage(3, (16, 16), 16, 1), torch.randn(3, 16, 16, generator=RANDOM())
    seen = []

    def denoise(x, sigma, view):
        seen.append(x)
        return torch.zeros_like(x)

    random, views, solver = RANDOM(1), FixedViews(None, (1, 3, 16, 16)), Adam(2, 2)
    known = Known(siren, picture)
    params = known.fitted(siren.init(random), solver, random, lambda: None)
    pull = Pull(siren, denoise, views, solver, log_linear(2, 0.1, 1.0), repaint(2), fit=siren.fit)
    state = known.carried(start(params, views, solver, random), pull, random)
    pull(state, random)
    assert (siren(params)[0] - picture).abs().max() > 0.1  # so small a field cannot draw it
    assert torch.allclose(seen[0], picture + state.noise, atol=1e-5)


def test_what_is_kept_is_put_in_the_place_of_the_estimate():
    picture, mask = torch.full((3, 8, 8), 2.0), torch.zeros(1, 8, 8)
    mask[..., 4:] = 1
    known = Known(PixelGrid((1, 3, 8, 8)), picture, mask)
    kept = known.keeping(lambda x, sigma, view: x)(torch.ones(1, 3, 8, 8), torch.tensor(1.0), None)
    assert (kept[..., :4] == 2).all() and (kept[..., 4:] == 1).all()
    plain = lambda x, sigma, view: x
    assert Known(known.diffrep, picture).keeping(plain) is plain


def test_under_a_soft_mask_the_model_also_sees_the_known_picture():
    """The model sees the known picture with the noise of the run, mixed in by the mask, as in KSamplerX0Inpaint."""
    picture, mask, shown = torch.full((3, 8, 8), 2.0), torch.full((1, 8, 8), 0.25), []
    known = Known(PixelGrid((1, 3, 8, 8)), picture, mask)
    denoise = lambda x, sigma, view: shown.append(x) or torch.zeros_like(x)
    kept = known.keeping(denoise, lambda view: torch.ones(1, 3, 8, 8))(torch.zeros(1, 3, 8, 8), torch.tensor(3.0), None)
    assert torch.allclose(shown[0], torch.tensor(0.75 * (2.0 + 3.0))) and torch.allclose(kept, torch.tensor(0.75 * 2.0))
    half = known.keeping(denoise, None, lambda sigma, mask: mask * 2)(torch.zeros(1, 3, 8, 8), torch.tensor(3.0), None)
    assert torch.allclose(half, torch.tensor(0.5 * 2.0))
