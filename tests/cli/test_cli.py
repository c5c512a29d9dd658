"""The command line as a user sees it: files, messages and exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from lpaint import __version__
from lpaint.painting.onnx_model import has_cuda
from tests.helpers.commands import listing

ROOT = Path(__file__).parents[2]


def test_painting_lies_beside_the_caller_in_the_pictures_own_size(lpaint, actor, picture, tmp_path) -> None:
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 20, "--device", "cpu")
    assert outcome.code == 0 and outcome.out == "meadow.painted.png: 20 strokes\n" and outcome.err == ""
    assert Image.open("meadow.painted.png").size == (60, 40)
    assert listing(tmp_path) == {"in/meadow.png", "meadow.painted.png"}


def test_a_painting_can_be_written_as_vectors(lpaint, actor, picture, tmp_path) -> None:
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 20, "--size", 90, "-o", "meadow.svg")
    assert outcome.code == 0 and outcome.out == "meadow.svg: 20 strokes\n"
    document = (tmp_path / "meadow.svg").read_text(encoding="utf-8")
    assert document.startswith("<svg") and 'viewBox="0 0 90 60"' in document and document.count("<path") > 5


def test_auto_prints_the_chosen_device(lpaint, actor, picture) -> None:
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 5)
    assert outcome.err == f"painting on the {'GPU (CUDA)' if has_cuda() else 'CPU'}\n"


def test_options_of_size_grid_and_output(lpaint, actor, picture) -> None:
    options = ("--onnx", actor, "--divide", 2, "--steps", 2, "--size", 90, "-o", "out.webp")
    outcome = lpaint("paint", picture, *options)
    assert outcome.code == 0
    assert Image.open("out.webp").size == (90, 60)
    # At most 2 bundles of 2 strokes on the whole and on each of 4 tiles; fewer where a stroke would not help.
    assert 0 < int(outcome.out.split()[1]) <= 2 * 2 * 5


def test_pixel_art_of_the_painting(lpaint, actor, picture, tmp_path) -> None:
    (tmp_path / "two.hex").write_text("102030\nf0e0d0\n")
    options = ("--onnx", actor, "--strokes", 10, "--pixel-art", 12, "--size", 120)
    for palette, colours in (("4", 4), ("two.hex", 2)):
        assert lpaint("paint", picture, *options, "--palette", palette, "--overwrite", "-o", "art.png").code == 0
        art = np.asarray(Image.open("art.png"))
        assert art.shape == (80, 120, 3) and len(np.unique(art.reshape(-1, 3), axis=0)) <= colours
        assert (art.reshape(8, 10, 12, 10, 3) == art[::10, ::10].reshape(8, 1, 12, 1, 3)).all()
    for bad, code in ((("-o", "art.jpg"), 2), (("--palette", "1"), 2), (("--palette", "no.hex"), 1)):
        assert lpaint("paint", picture, *options, *bad).code == code


def test_strokes_are_listed_with_their_numbers(lpaint) -> None:
    text, described = lpaint("strokes").out, json.loads(lpaint("strokes", "--json").out)
    assert "bezier: " in text and "13 numbers" in text
    assert {"bezier", "circle", "pixel", "brush"} <= described.keys() and "x0" in described["triangle"]["shape"]


def test_same_call_paints_the_same(lpaint, actor, picture) -> None:
    for name in ("a.png", "b.png"):
        lpaint("paint", picture, "--onnx", actor, "--strokes", 20, "-o", name)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_good_pictures_are_painted_beside_bad_ones(lpaint, actor, picture, tmp_path) -> None:
    text = tmp_path / "in" / "letter.png"
    text.write_text("Dear all,")
    outcome = lpaint("paint", text, picture, "--onnx", actor, "--strokes", 5, "--out-dir", "out/deep")
    assert outcome.code == 1
    assert (
        outcome.sentence
        == f"error: {text}: is not an image that can be read; give a PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP"
    )
    assert listing(tmp_path / "out") == {"deep/meadow.png"}


def test_a_picture_that_is_cut_off_is_painted_with_a_warning_or_refused(lpaint, actor, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    Image.fromarray(noise).save(folder / "cut.jpg")
    Image.fromarray(noise).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-2])
    common = ("paint", folder / "cut.jpg", folder / "whole.jpg", "--onnx", actor, "--strokes", 5)
    outcome = lpaint(*common, "--out-dir", "out", "--quiet")
    words = f"{folder}/cut.jpg: is cut off: its end is missing"
    assert outcome.code == 0 and listing(tmp_path / "out") == {"cut.png", "whole.png"}
    assert outcome.err == f"warning: {words}; it is painted as far as it goes, --strict refuses it\n"
    painted = json.loads(lpaint(*common, "--out-dir", "told", "--json").out)["painted"]
    assert [entry.get("warning") for entry in painted] == ["is cut off: its end is missing", None]
    outcome = lpaint(*common, "--out-dir", "strict", "--strict")
    assert outcome.code == 1 and listing(tmp_path / "strict") == {"whole.png"}
    assert outcome.sentence == (
        f"error: {folder}/cut.jpg: is cut off: the file ends before its picture does; get a whole copy"
    )


def test_failed_painting_leaves_an_earlier_one_alone(lpaint, actor, picture, tmp_path) -> None:
    Path("out.png").write_bytes(b"precious")
    picture.write_bytes(picture.read_bytes()[:60])
    assert lpaint("paint", picture, "--onnx", actor, "--overwrite", "-o", "out.png").code == 1
    assert Path("out.png").read_bytes() == b"precious"
    assert listing(tmp_path) == {"in/meadow.png", "out.png"}


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "foreign", "renderer", "stripped", "truncated"])
def test_bad_models_are_one_sentence_and_exit_code_3(lpaint, chain, actor, picture, tmp_path, kind) -> None:
    model = tmp_path / "model.onnx"
    if kind == "text":
        model.write_text("not a model")
    elif kind == "empty":
        model.touch()
    elif kind == "foreign":
        onnx.save(_foreign(), model)
    elif kind == "renderer":
        shutil.copy(chain / "exports/renderer.onnx", model)
    elif kind == "stripped":
        stripped = onnx.load(actor)
        kept = {each.key: each.value for each in stripped.metadata_props if each.key != "lpaint.rasteriser"}
        del stripped.metadata_props[:]
        helper.set_model_props(stripped, kept)
        onnx.save(stripped, model)
    elif kind == "truncated":
        model.write_bytes(actor.read_bytes()[:1000])
    outcome = lpaint("paint", picture, "--onnx", model)
    assert outcome.code == 3 and str(model) in outcome.sentence
    assert not Path("meadow.painted.png").exists()
    if kind != "stripped":
        assert lpaint("info", model).code == 3


def _foreign() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "foreign", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.skipif(has_cuda(), reason="a GPU answers here")
def test_cuda_without_a_gpu_is_exit_code_4(lpaint, actor, picture) -> None:
    outcome = lpaint("paint", picture, "--onnx", actor, "--device", "cuda")
    assert outcome.code == 4 and "no NVIDIA GPU answers here" in outcome.sentence
    assert not Path("meadow.painted.png").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no GPU answers here")
def test_gpu_paints_like_the_cpu(lpaint, actor, picture) -> None:
    for device in ("cpu", "cuda"):
        lpaint("paint", picture, "--onnx", actor, "--device", device, "--strokes", 20, "-o", f"{device}.png")
    cpu, cuda = (np.asarray(Image.open(f"{device}.png"), np.float32) for device in ("cpu", "cuda"))
    assert np.abs(cpu - cuda).mean() < 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strokes", 5, "--divide", 2), "give the one or the other"),
        (("--effort", 5, "--divide", 2), "--effort places strokes by error"),
        (("-o", "x.png", "--out-dir", "y"), "give the one or the other"),
        (("-o", "x.pdf"), "cannot write .pdf"),
        (("-o", "in/meadow.png"), "would overwrite the picture"),
        (("--overwrite", "--skip-existing"), "contradict each other"),
        (("--detail", "low", "--strokes", 5), "--detail sets strokes and effort"),
        (("--size", "9", "--scale", "2"), "both say how large the painting is"),
        (("--size", "9by9"), "--size 9by9: give a width"),
        (("--size", "0x5"), "--size 0x5: give a width"),
        (("--scale", "-1"), "--scale -1.0: give a number above 0"),
        (("--background", "mud"), "'mud' is no colour"),
        (("-o", "-", "--json"), "would both go to standard output"),
        (("-o", "a.png", "-o", "a.png"), "the same output is named twice"),
    ],
)
def test_contradictions_are_exit_code_2(lpaint, actor, picture, arguments, words) -> None:
    before = picture.read_bytes()
    outcome = lpaint("paint", picture, "--onnx", actor, *arguments)
    assert outcome.code == 2 and words in outcome.sentence
    assert picture.read_bytes() == before


def test_two_pictures_cannot_have_one_painting(lpaint, actor, picture, tmp_path) -> None:
    twin = tmp_path / "meadow.jpg"
    Image.open(picture).save(twin)
    outcome = lpaint("paint", picture, twin, "--onnx", actor, "--strokes", 4)
    assert outcome.code == 1 and f"meadow.painted.png is the painting of {picture}" in outcome.err
    assert (tmp_path / "meadow.painted.png").exists(), "the first of the two is painted"
    outcome = lpaint("paint", picture, twin, "--onnx", actor, "-o", "one.png")
    assert outcome.code == 2 and "but there are 2; use --out-dir" in outcome.sentence


@pytest.mark.parametrize("arguments", [("paint",), ("paint", "x.png", "--divide", "0"), ("draw",), ("info", "--yaml")])
def test_usage_errors_are_exit_code_2(lpaint, arguments) -> None:
    assert lpaint(*arguments).code == 2


def test_info_in_words_and_as_json(lpaint, actor) -> None:
    facts = json.loads(lpaint("info", actor, "--json").out)
    assert facts["canvas"] == "16" and facts["tensors"]["strokes"] == ["batch", 2, 13]
    assert "rasteriser" not in facts and min(facts["embedded_bytes"].values()) > 1000
    assert "canvas" in lpaint("info", actor).out


def test_version(lpaint) -> None:
    assert lpaint("--version").out == f"lpaint {__version__}\n"


def test_profiles_are_listed_shown_and_applied(lpaint, tmp_path) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    listed = lpaint("profile", "list").out
    assert all(path.stem in listed for path in (ROOT / "profiles").glob("*.yaml"))
    assert lpaint("profile", "show", "smoke").out == (ROOT / "profiles/smoke.yaml").read_text()
    applied = lpaint("profile", "apply", "smoke")
    assert applied.code == 0 and "data.limit" in applied.out
    outcome = lpaint("profile", "apply", "smokey")
    assert outcome.code == 2 and "did you mean smoke?" in outcome.sentence


def test_base_install_names_the_missing_package(lpaint, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("ruamel", "lpaint.runtime.profiles"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ruamel", None)
    outcome = lpaint("profile", "list")
    assert outcome.code == 2 and "this command needs ruamel" in outcome.sentence


def test_painting_imports_nothing_heavy(actor, picture, tmp_path) -> None:
    script = (
        "import sys; from lpaint.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as done: assert not done.code, done\n"
        "heavy = {'torch', 'mlflow', 'dvc', 'pandas', 'lpaint.params', 'onnx', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    call = [sys.executable, "-c", script, "paint", str(picture), "--onnx", str(actor), "--strokes", "5"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "meadow.painted.png").exists()
