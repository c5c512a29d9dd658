"""Digits and photographs in the forms in which they are distributed, and everything that may be wrong with them."""

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lpaint.data.dataset import PreparedData
from lpaint.data.prepare import prepare
from lpaint.data.sources import open_source
from lpaint.errors import DataError
from stages import source as source_stage
from tests.helpers.pictures import data_params, idx, jpeg, svhn_picture, write_mnist, write_svhn


def _prepared(tmp_path: Path, source: str, **data: object) -> PreparedData:
    prepare(data_params(source=source, path=str(tmp_path / source), **data), tmp_path / "out")
    return PreparedData.load(tmp_path / "out")


def _splits(data: PreparedData) -> dict[str, list[str]]:
    """Names of each split's first folder or part."""
    names = {split: data.names(data.split(split)) for split in ("train", "validation", "test")}
    return {split: sorted({name.split("/")[0] for name in found}) for split, found in names.items()}


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_is_packed_with_its_official_test_split(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path / "mnist", train=12, test=4, zipped=zipped)
    data = _prepared(tmp_path, "mnist", size=28)
    assert _splits(data) == {"train": ["train"], "validation": ["train"], "test": ["test"]}
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [11, 1, 4]
    (row,) = (at for at, name in enumerate(data.names(np.arange(16))) if name == "train/000007-7")
    expected = np.arange(28 * 28).reshape(28, 28) // 4 + 7
    assert (data.images[row] == expected[:, :, None]).all(), "grey in all three channels, upright"
    assert data.names(np.arange(3)) == ["test/000000-0", "train/000000-0", "test/000001-1"], "the parts take turns"


def test_mnist_is_found_under_the_mirrors_names(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "mnist", zipped=False)
    for path in list(root.iterdir()):
        path.rename(root / path.name.replace("-idx", ".idx"))
    assert len(_prepared(tmp_path, "mnist").images) == 16


def _in_own_folders(root: Path) -> Path:
    """Each file in a folder of its own name."""
    for path in list(root.iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        (path / path.name).write_bytes(content)
    return root


@pytest.mark.parametrize("zipped", [True, False])
def test_each_file_may_lie_in_a_folder_of_its_own_name(tmp_path: Path, zipped: bool) -> None:
    _in_own_folders(write_mnist(tmp_path / "mnist", zipped=zipped))
    assert len(_prepared(tmp_path, "mnist").images) == 16
    assert len(open_source(data_params(source="mnist", path=str(tmp_path / "mnist"))).watched_files()) == 4
    assert open_source(data_params(source="mnist", path=str(tmp_path / "mnist"))).fingerprint()
    _in_own_folders(write_svhn(tmp_path / "svhn"))
    assert len(open_source(data_params(source="svhn", path=str(tmp_path / "svhn"))).names()) == 16


def test_a_compressed_file_may_lie_in_a_folder_of_the_unpacked_name(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "mnist")
    for path in list(root.iterdir()):
        (root / path.stem).mkdir()
        path.rename(root / path.stem / path.name)
    assert len(_prepared(tmp_path, "mnist").images) == 16


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("left", [0, 60, 128, 133, 300, -4_000, -100, -1])
def test_a_truncated_svhn_file_is_reported(tmp_path: Path, compressed: bool, left: int) -> None:
    root = write_svhn(tmp_path / "svhn", compressed, train=40, test=4)
    path = root / "train_32x32.mat"
    content = path.read_bytes()
    path.write_bytes(content[:left])
    size = len(content[:left])
    with pytest.raises(DataError) as caught:
        open_source(data_params(source="svhn", path=str(root))).names()
    if left == 128:
        # A header alone is a whole file without arrays.
        assert "holds nothing where SVHN" in str(caught.value)
        return
    found = re.fullmatch(
        rf"{path}: is cut off: it has {size:,} bytes and needs at least ([\d,]+); download it again", str(caught.value)
    )
    assert found and size < int(found[1].replace(",", "")) <= len(content)


def test_an_svhn_file_truncated_between_its_arrays_is_reported(tmp_path: Path) -> None:
    root = write_svhn(tmp_path / "svhn")
    pictures = np.stack([svhn_picture(index) for index in range(4)], axis=3)
    savemat(root / "test_32x32.mat", {"X": pictures}, do_compression=True)
    with pytest.raises(DataError, match=r"holds X but no y, so it is cut off after X; download it again"):
        open_source(data_params(source="svhn", path=str(root))).names()


@pytest.mark.parametrize("compressed", [True, False])
def test_svhn_is_packed_upright_and_extra_is_for_training(tmp_path: Path, compressed: bool) -> None:
    write_svhn(tmp_path / "svhn", compressed, train=12, test=4, extra=400)
    data = _prepared(tmp_path, "svhn", size=32)
    splits = _splits(data)
    assert splits["train"] == ["extra", "train"] and splits["test"] == ["test"] and "test" not in splits["validation"]
    for row, name in enumerate(data.names(np.arange(416))):
        index, label = name.partition("/")[2].split("-")
        assert np.array_equal(data.images[row], svhn_picture(int(index))), name
        assert int(label) == (int(index) + 1) % 10, "10 stands for zero"


def test_svhns_big_endian_files_are_read(tmp_path: Path) -> None:
    """As MATLAB wrote them on other machines: tags, dimensions and name by the format's description."""
    write_svhn(tmp_path / "svhn")
    pictures = np.stack([svhn_picture(index) for index in range(5)], axis=3)

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(name: bytes, shape: tuple[int, ...], content: bytes) -> bytes:
        parts = element(6, struct.pack(">II", 9, 0)) + element(5, struct.pack(f">{len(shape)}i", *shape))
        return element(14, parts + element(1, name) + element(2, content))

    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    body = matrix(b"y", (5, 1), bytes(range(5))) + matrix(b"X", (32, 32, 3, 5), pictures.tobytes(order="F"))
    (tmp_path / "svhn" / "train_32x32.mat").write_bytes(header + body)
    data = _prepared(tmp_path, "svhn", size=32)
    rows = [row for row, name in enumerate(data.names(np.arange(9))) if name.startswith("train/")]
    assert all(np.array_equal(data.images[row], svhn_picture(at)) for at, row in enumerate(rows))


def _imagenet(root: Path, folders: dict[str, int]) -> Path:
    for at, (folder, count) in enumerate(folders.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            mode = ("RGB", "L", "CMYK")[index % 3]
            Image.new(mode, (24, 20), tuple([10 * at] * len(Image.new(mode, (1, 1)).getbands()))).save(
                root / folder / f"{index:03d}.JPEG", "JPEG"
            )
    return root


def test_a_folder_laid_out_like_imagenet_keeps_its_splits(tmp_path: Path) -> None:
    _imagenet(tmp_path / "folder", {"train/n01": 6, "train/n02": 6, "val/n01": 3, "val/n02": 3})
    data = _prepared(tmp_path, "folder", test_fraction=0.25)
    assert _splits(data) == {"train": ["train"], "validation": ["val"], "test": ["train"]}
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [9, 6, 3]
    first = data.names(data.split("validation")[:2])
    assert first == ["val/n01/000.JPEG", "val/n02/000.JPEG"], "the first pictures are of all classes"


@pytest.mark.parametrize(
    "folders",
    [{"n01": 4, "n02": 4}, {"train/n01": 8}, {"train/n01": 4, "val/n01": 3, "more": 1}, {"val/n01": 4, "test/n01": 4}],
)
def test_other_folders_have_no_official_split(tmp_path: Path, folders: dict[str, int]) -> None:
    root = _imagenet(tmp_path / "folder", folders)
    source = open_source(data_params(source="folder", path=str(root)))
    assert source.splits(source.names()) is None
    assert [len(_prepared(tmp_path, "folder").split(name)) for name in ("train", "validation", "test")] == [6, 1, 1]


def test_a_limit_takes_every_class_and_split(tmp_path: Path) -> None:
    _imagenet(tmp_path / "folder", {"train/n01": 8, "train/n02": 8, "val/n01": 4, "val/n02": 4, "test/n01": 8})
    data = _prepared(tmp_path, "folder", limit=8)
    assert _splits(data) == {"train": ["train"], "validation": ["val"], "test": ["test"]}
    assert {name.split("/")[1] for name in data.names(data.split("train"))} == {"n01", "n02"}


def _replace(name: str, content: bytes) -> Callable[[Path], None]:
    def replace(root: Path) -> None:
        (root / name).write_bytes(content)

    return replace


def _cut(name: str, by: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_bytes((root / name).read_bytes()[:-by])

    return change


def _grow(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_bytes((root / name).read_bytes() + b"x")

    return change


def _drop(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop(LABELS), f"has no {LABELS} and no {LABELS}.gz; put the four files"),
        (_drop("t10k-images-idx3-ubyte"), "has no t10k-images-idx3-ubyte"),
        (_replace(IMAGES, idx(np.zeros(12))), "begins with 00000801 where an idx file of it has 00000803"),
        (_replace(IMAGES, b""), "begins with  where"),
        (_replace(IMAGES, b"\0\0\x08\x03\0\0"), "ends within its header"),
        (_replace(IMAGES, b"\0\0\x08\x03" + b"\xff" * 12), "its header claims 4294967295 x 4294967295"),
        (_replace(IMAGES, b"\0\0\x08\x03" + bytes(12)), "its header claims 0 x 0 x 0"),
        (_replace(IMAGES, idx(np.zeros((11, 28, 28)))), "holds 12 labels for the 11 images"),
        (_cut(IMAGES, 1), f"holds {12 * 784 - 1:,} bytes of data where its header calls for {12 * 784:,}"),
        (_grow(IMAGES), f"holds more than the {12 * 784:,} bytes"),
        (_cut(LABELS, 1), "holds 11 bytes of data where its header calls for 12"),
    ],
)
def test_bad_mnist_is_one_sentence(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    change(write_mnist(tmp_path / "mnist", zipped=False))
    _refused(tmp_path, "mnist", words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_replace(f"{IMAGES}.gz", idx(np.zeros((12, 28, 28)))), "is called .gz but is not gzip"),
        (_cut(f"{IMAGES}.gz", 30), "is damaged (Compressed file ended"),
        (_cut(f"{LABELS}.gz", 9), "is damaged (Compressed file ended"),
        (
            _replace(f"{IMAGES}.gz", gzip.compress(idx(np.zeros((12, 28, 28))))[:-8] + bytes(8)),
            "is damaged (CRC check failed",
        ),
    ],
)
def test_bad_gzip_is_one_sentence(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    change(write_mnist(tmp_path / "mnist"))
    _refused(tmp_path, "mnist", words)


def _mat(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda root: savemat(root / "train_32x32.mat", arrays)


PICTURES = np.zeros((32, 32, 3, 12), np.uint8)
MAT = "train_32x32.mat"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop(MAT), f"has no {MAT}; put train_32x32.mat and test_32x32.mat there"),
        (_replace(MAT, b"no matlab" * 100), "is no readable MATLAB file"),
        (_replace(MAT, b""), "is cut off: it has 0 bytes"),
        (_replace(MAT, b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + b"\x89HDF\r\n"), "is a MATLAB v7.3 file"),
        (_mat(digitStruct=np.zeros(3)), "holds digitStruct where SVHN's cropped digits have X and y"),
        (_mat(X=PICTURES.astype(float), y=np.ones((12, 1))), "X is double 32 x 32 x 3 x 12 where uint8"),
        (_mat(X=PICTURES[:28], y=np.ones((12, 1))), "X is uint8 28 x 32 x 3 x 12 where"),
        (_mat(X=PICTURES, y=np.ones((11, 1))), "holds 11 labels for 12 images"),
        (_mat(X=PICTURES, y=np.full((12, 1), 99)), "y holds other labels than 0 to 10"),
    ],
)
def test_bad_svhn_is_one_sentence(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    change(write_svhn(tmp_path / "svhn"))
    _refused(tmp_path, "svhn", words)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_pixels_of_svhn_are_noticed(tmp_path: Path, compressed: bool) -> None:
    write_svhn(tmp_path / "svhn")
    path = tmp_path / "svhn" / MAT
    # More than scipy inflates on its way to the labels.
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 200)).astype(np.uint8)
    savemat(path, {"X": pixels, "y": np.ones((200, 1))}, do_compression=compressed)
    content = path.read_bytes()
    if compressed:
        # The end of the first compressed element is its checksum.
        (length,) = struct.unpack_from("<I", content, 132)
        content = content[: 136 + length - 1] + bytes([content[136 + length - 1] ^ 1]) + content[136 + length :]
    else:
        # The tag of the pixels says what type they are.
        at = content.index(struct.pack("<II", 2, pixels.size))
        content = content[:at] + struct.pack("<II", 2, pixels.size - 8) + content[at + 8 :]
    path.write_bytes(content)
    _refused(tmp_path, "svhn", "its array X is damaged")


def _refused(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        prepare(data_params(source=source, path=str(tmp_path / source)), tmp_path / "out")
    assert str(tmp_path / source) in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [source]


@pytest.mark.parametrize("source", ["mnist", "svhn"])
def test_the_files_are_watched_and_their_content_is_noted(tmp_path: Path, source: str) -> None:
    root = write_mnist(tmp_path / source) if source == "mnist" else write_svhn(tmp_path / source)
    params = data_params(source=source, path=str(root))
    (tmp_path / "watch").mkdir()
    source_stage.link_files(params, tmp_path / "watch")
    assert {link.name for link in (tmp_path / "watch").iterdir()} == {path.name for path in root.iterdir()}
    first = open_source(params).fingerprint()
    moved = root.rename(tmp_path / "moved")
    params = data_params(source=source, path=str(moved))
    assert open_source(params).fingerprint() == first
    write_mnist(moved, train=13) if source == "mnist" else write_svhn(moved, train=13)
    assert open_source(params).fingerprint() != first
    for path in moved.iterdir():
        path.unlink()
    source_stage.link_files(params, tmp_path / "watch")
    assert not list((tmp_path / "watch").iterdir())


@pytest.mark.parametrize("source", ["mnist", "svhn"])
def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path, source: str) -> None:
    (tmp_path / "file").write_bytes(jpeg(0))
    with pytest.raises(DataError, match=f"data.source is {source}, but this is a file"):
        open_source(data_params(source=source, path=str(tmp_path / "file")))
