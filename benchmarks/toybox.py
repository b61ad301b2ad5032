"""How much toybox's answers depend on what it is told: `python benchmarks/toybox.py` prints a table.

Mean squared denoising error on fresh pictures (never trained on) at several noise levels, with the right words and
camera, with those of another picture, and with no words at all. Needs the extra `train`, whose renderer it uses.
"""

from __future__ import annotations

import numpy as np
import torch
from pullback.generative.toybox import model, pictures, words


def main(count: int = 24) -> None:
    net = model.network()
    x, texts, cameras = (torch.from_numpy(a) for a in pictures.objects(count, np.random.default_rng(987_654)))
    random = torch.Generator().manual_seed(0)
    other = torch.randperm(len(x), generator=random)
    clean = torch.cat([x[:, :3], x[:, 6:]], 1).float() / 127.5 - 1
    noise, texts, lit = torch.randn(clean.shape, generator=random), texts.long(), torch.ones(len(x))
    silence = torch.tensor([words.encode("")]).expand_as(texts)
    told = {
        "right": (texts, cameras), "another's words": (texts[other], cameras),
        "another's camera": (texts, cameras[other]), "no words": (silence, cameras),
    }  # fmt: skip
    print(f"| sigma | {' | '.join(told)} |\n| --- | --- | --- | --- | --- |")
    for sigma in (0.3, 1.0, 3.0, 10.0):
        with torch.no_grad():
            noisy, level = clean + sigma * noise, torch.full((len(x),), sigma)
            errors = [float((net(noisy, level, *said, lit) - clean).square().mean()) for said in told.values()]
        print(f"| {sigma:g} | {' | '.join(f'{e:.4f}' for e in errors)} |", flush=True)


if __name__ == "__main__":
    main()
