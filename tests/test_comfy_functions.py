"""The nodes of models of functions: the core's numbers through ComfyUI's guider at any size, and what the others make of files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.model_management
import comfy.samplers
import comfy.utils
import nodes as core_nodes
import safetensors.torch

functions, host, plans, sampling, signals, sockets, weights = (
    part(f"comfy_nodes.{name}")
    for name in ("functions", "host", "plans", "sampling", "signals", "sockets", "weights")
)
builtin, decoding, files = part("comfy_nodes.builtin"), part("comfy_nodes.decoding"), part("core.pullback.storage")
core, uses = (part(f"core.pullback.generative.infty_diff.{name}") for name in ("model", "uses"))
networks = part("core.pullback.generative.infty_diff.autoencoder")
sizes = part("core.pullback.generative.infty_diff.network")
dpf, designs, dpf_network = (part(f"core.pullback.generative.dpf.{name}") for name in ("model", "design", "network"))
shapes = part("core.pullback.functions")
orbit = part("core.pullback.geometry.cameras").turntable(2)
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with models that know nothing: ∞-Diff with toybox's parts and in RGB without, and DPF of shapes and panoramas."""
    path = tmp_path_factory.mktemp("models")
    for name, more in (("tiny", {"toybox": True}), ("rgb", {"toybox": False, "depth": 1, "channels": 3})):
        torch.manual_seed(0)
        made = networks.Functions(sizes.Config(point_channels=8, blocks=1, latent=4, **more))
        for p in made.parameters():  # the zeros of a fresh network would hide mistakes
            if not p.any():
                torch.nn.init.normal_(p, std=0.05)
        metadata = {"format": core.FORMAT, "config": json.dumps(asdict(made.config)), "std": "1.0"}
        safetensors.torch.save_file(made.state_dict(), path / f"{name}.safetensors", metadata)
    for domain, preset in (("cube", "shape"), ("sphere", "world")):
        torch.manual_seed(0)
        kind = part("core.pullback.generative.dpf.domains").domain_of(domain, 4 if domain == "cube" else 3)
        design = designs.preset_of(designs.PRESETS["tiny"], kind, True).design
        design = replace(design, side=8)
        made = dpf_network.FieldNetwork(design.network)
        torch.nn.init.normal_(made.out.weight, std=0.1)
        metadata = {"format": dpf.FORMAT, "design": part("core.pullback.schema").described(design)}
        safetensors.torch.save_file(made.state_dict(), path / f"{preset}.safetensors", metadata)
    return path


@pytest.fixture(autouse=True)
def _listed(folder, monkeypatch):
    for kind in (weights.INFTY_DIFF, weights.DPF):
        monkeypatch.setitem(weights.folder_paths.folder_names_and_paths, kind, ([str(folder)], {".safetensors"}))


@pytest.fixture
def said(monkeypatch):
    """What the page is told."""
    told = []
    monkeypatch.setattr(builtin.notes, "say", told.append)
    return told
