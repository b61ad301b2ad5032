"""Names, dates and lists of files that come from graphs, without ComfyUI."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from comfy_pack import part
from safetensors.torch import save_file

listing, paths = part("comfy_nodes.listing"), part("comfy_nodes.paths")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "C:x", "", "/", ".", "a/..", "x\0y", "//server/x"]
)
def test_names_that_leave_the_folder_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match="is not the name of a file"):
        paths.within(tmp_path, name)


def test_links_do_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is not the name"):
        paths.within(tmp_path / "out", "link/x")


def test_dates_in_a_prefix_are_what_core_s_page_and_savers_make_of_them():
    now = time.struct_time((2026, 3, 7, 14, 5, 9, 0, 66, 0))
    assert paths.dated("%date:yyyy-MM-dd%/%date:hhmmss%", now) == "2026-03-07/140509"
    assert paths.dated("%date:d.M.yy h:m:s%", now) == "7.3.26 14:5:9"
    assert paths.dated("%year%-%month%-%day%_%hour%%minute%%second%", now) == "2026-03-07_140509"
    assert paths.dated("%nonsense% 100% d", now) == "%nonsense% 100% d"


def test_what_cannot_be_written_is_said_before_anything_is(tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    for prefix, says in (
        ("taken/x", "a file and not a folder"),
        ("a" * 201, "too long"),
        ("ä" * 101, "too long"),
        ("a/" + "b" * 300 + "/c", "too long"),
        ("\ud800", "not the name of a file"),
        ("%date:hh:mm%", "not the name of a file"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            paths.beginning(tmp_path, prefix)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(paths.os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="may not be written to"):
        paths.beginning(tmp_path, "a/b")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"], "a folder was made"


def test_the_longest_name_can_be_written(tmp_path):
    files = part("core.pullback.files")
    target = paths.fresh_path(tmp_path, "a" * paths.LONGEST, ".safetensors")
    with files.atomic(target.path) as temporary:
        temporary.write_text("x")
    assert target.path.read_text() == "x"


def test_names_count_up(tmp_path):
    first = paths.fresh_path(tmp_path, "fields/a b", ".safetensors")
    assert first.name == "fields/a b_00001_.safetensors" and first.subfolder == "fields"
    first.path.touch()
    (tmp_path / "fields/a b_00007_.png").touch()
    assert paths.fresh_path(tmp_path, "fields/a b", ".safetensors").name == "fields/a b_00008_.safetensors"
    assert "%" not in paths.fresh_path(tmp_path, "%year%-%month%", ".x").name


def a_field(path: Path) -> Path:
    storage, image = part("core.pullback.storage"), part("core.pullback.diffreps.image")
    siren = image.SirenImage(width=8, depth=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.save_field(path, storage.Field(siren, siren.init(torch.Generator())))
    return path


def test_fields_are_found_by_the_names_that_are_listed_and_nothing_else_is(tmp_path):
    folders = {tag: str(tmp_path / tag) for tag in ("input", "output")}
    mine, other = a_field(tmp_path / "input/a.safetensors"), a_field(tmp_path / "output/f/b.safetensors")
    os.utime(other, (1, 1))
    save_file({"weight": torch.zeros(3)}, tmp_path / "input/lora.safetensors")
    (tmp_path / "input/rubbish.safetensors").write_bytes(b"\x80\x04\x95")
    (tmp_path / "input/empty.safetensors").touch()
    (tmp_path / "input/folder.safetensors").mkdir()
    (tmp_path / "output/c.png").touch()
    (tmp_path / "output/.b.1-2.safetensors").write_bytes(mine.read_bytes())  # being written
    (tmp_path / "input/nowhere.safetensors").symlink_to(tmp_path / "gone")
    (tmp_path / "input/outside.safetensors").symlink_to(a_field(tmp_path / "elsewhere.safetensors"))
    (tmp_path / "output/around").symlink_to(tmp_path / "output")
    assert listing.listed(folders) == ["a.safetensors", "f/b.safetensors [output]"], "newest first"
    for name in listing.listed(folders):
        assert listing.located(folders, name).is_file()
    for wrong, says in (
        ("b.safetensors", "no field file"),
        ("c.png [output]", "end in"),
        ("../a.safetensors", "not the name"),
    ):
        with pytest.raises(ValueError, match=says):
            listing.located(folders, wrong)
    assert listing.listed({"input": str(tmp_path / "not there")}) == []


def test_what_was_listed_is_not_read_again_until_it_changes(tmp_path, monkeypatch):
    asked, read = [], []
    storage = part("core.pullback.storage")
    known = listing.Listing(tmp_path, lambda path: asked.append(path.name) or storage.is_field(path))
    scandir = os.scandir
    monkeypatch.setattr(listing.os, "scandir", lambda folder: read.append(Path(folder).name) or scandir(folder))

    def names(settled=True) -> list[str]:
        asked.clear(), read.clear()
        for folder in (tmp_path, tmp_path / "f") if settled else ():
            os.utime(folder, ns=(0, folder.stat().st_mtime_ns - 10**10))
        return sorted(name for _, name in known.found())

    a_field(tmp_path / "f/a.safetensors")
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    for i in range(9):
        (tmp_path / f"{i}.png").touch()
    assert names() == ["f/a.safetensors"] and sorted(asked) == ["a.safetensors", "model.safetensors"]
    assert known.found() and not asked[2:] and len(read) == 2, "the second time everything is known"
    a_field(tmp_path / "f/b.safetensors")
    assert names() == ["f/a.safetensors", "f/b.safetensors"] and asked == ["b.safetensors"] and "f" in read
    a_field(tmp_path / "model.safetensors")
    assert names() == ["f/a.safetensors", "f/b.safetensors", "model.safetensors"] and asked == ["model.safetensors"]
    (tmp_path / "f/a.safetensors").unlink()
    assert names(settled=False) == ["f/b.safetensors", "model.safetensors"] and not asked
    names(settled=False)
    assert read == ["f"], "a folder that changed a moment ago may change again within the same tick of the clock"
