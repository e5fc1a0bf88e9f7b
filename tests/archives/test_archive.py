"""Reading archives that are not what they should be."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from archives.archive import list_archives, read_archive
from archives.catalogue import ModelSpec
from archives.errors import ArchiveError
from archives.fetch import fetch
from archives.pack import pack
from tests.archives.conftest import LAYOUT, LOCK

MANIFEST = "embedkit-manifest.json"


@pytest.fixture(scope="module")
def whole(tiny: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    return pack(tiny, fetch(tiny, store), LAYOUT, store, lock=LOCK).path


def rewritten(whole: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of the archive with its members changed."""
    with zipfile.ZipFile(whole) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(target / whole.name, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return target / whole.name


def with_manifest(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[MANIFEST] = orjson.dumps(orjson.loads(members[MANIFEST]) | values)

    return change


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.999])
def test_cut_short(whole: Path, tmp_path: Path, part: float) -> None:
    """An archive cut anywhere is refused, by name and with the next step."""
    content = whole.read_bytes()
    path = tmp_path / whole.name
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ArchiveError, match=r"tiny-1.0.mar: not a whole archive .*pack the model again"):
        read_archive(path)


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "model/../../x", "a\\b", "C:x"])
def test_members_that_lead_out(whole: Path, tmp_path: Path, name: str) -> None:
    """A member that would be written outside the archive's folder makes the whole file unusable."""
    path = rewritten(whole, tmp_path, lambda members: members.update({name: b"x"}))
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        read_archive(path)


def test_links(whole: Path, tmp_path: Path) -> None:
    """A symbolic link in an archive is refused."""
    path = tmp_path / whole.name
    shutil.copy(whole, path)
    link = zipfile.ZipInfo("model/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        read_archive(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_twice(whole: Path, tmp_path: Path) -> None:
    """A member that is there twice is refused: readers differ in which one they take."""
    path = tmp_path / whole.name
    shutil.copy(whole, path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("embedkit_entry.py", "evil = True")
    with pytest.raises(ArchiveError, match=r"'embedkit_entry.py' is in it twice"):
        read_archive(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.pop(MANIFEST), r"embedkit-manifest.json is missing, so it is no archive of this kit"),
        (lambda members: members.pop("MAR-INF/MANIFEST.json"), r"MAR-INF/MANIFEST.json is missing"),
        (lambda members: members.update({MANIFEST: b"{"}), r"embedkit-manifest.json is not JSON"),
        (lambda members: members.update({MANIFEST: b"{}"}), r"of another version of the kit"),
        (with_manifest(format=1), r"of another version of the kit: pack the model again"),
        (lambda members: members.update({"embedkit.json": b'{"model": 1}'}), r"embedkit.json cannot be used"),
    ],
)
def test_missing_or_odd_parts(
    whole: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    """An archive without what the kit puts into each, or with another version's, is refused."""
    with pytest.raises(ArchiveError, match=message):
        read_archive(rewritten(whole, tmp_path, change))


def test_renamed(whole: Path, tmp_path: Path) -> None:
    """An archive under another model's name is refused: TorchServe would serve it as that."""
    shutil.copy(whole, tmp_path / "other-1.0.mar")
    with pytest.raises(ArchiveError, match=r"it holds tiny 1.0: name it tiny-1.0.mar"):
        read_archive(tmp_path / "other-1.0.mar")


def test_not_there(tmp_path: Path) -> None:
    """A missing archive is told with the command that makes it."""
    with pytest.raises(ArchiveError, match="no such archive: run `embedkit pack`"):
        read_archive(tmp_path / "tiny-1.0.mar")


def test_list(whole: Path, tmp_path: Path) -> None:
    """The store's archives are listed, and what is none is told instead of passed over."""
    shutil.copy(whole, tmp_path / whole.name)
    (tmp_path / "broken-1.0.mar").write_bytes(b"not a zip")
    found, broken = list_archives(tmp_path)
    assert [one.path.name for one in found] == ["tiny-1.0.mar"]
    assert [str(error).startswith(f"{tmp_path}/broken-1.0.mar: not a whole archive") for error in broken] == [True]
    assert list_archives(tmp_path / "nowhere") == ([], [])
