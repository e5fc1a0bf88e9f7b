"""The file of keys."""

import re
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.gateway import control
from ops.gateway.keys import (
    digest_of,
    entries,
    keys_file,
    open_unless_decided,
    parse_keys,
    read_keys,
    with_new,
    without,
    write_keys,
)
from ops.settings import Settings


def test_a_key_is_random_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    """Two keys differ and have 256 bits each; the file holds digest and name, in mode 0600."""
    settings = Settings(var=tmp_path)
    keys, first = with_new({}, "alice")
    keys, second = with_new(keys, "bob")
    write_keys(settings, keys)
    text = keys_file(settings).read_text()
    assert first != second
    assert re.fullmatch(r"ek_[A-Za-z0-9_-]{43}", first)
    assert first not in text
    assert second not in text
    assert keys_file(settings).stat().st_mode & 0o777 == 0o600
    assert read_keys(settings) == {"alice": digest_of(first), "bob": digest_of(second)} == keys


def test_no_file_is_not_an_empty_file(tmp_path: Path) -> None:
    """Without a file, or with one that says so, nobody needs a key; with one that is empty nobody has one."""
    settings = Settings(var=tmp_path)
    assert read_keys(settings) is None
    open_unless_decided(settings)
    assert keys_file(settings).read_text().endswith("\nopen anonymous\n")
    assert read_keys(settings) is None
    write_keys(settings, {})
    open_unless_decided(settings)
    assert read_keys(settings) == {}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """With the setting that names it."""
    with pytest.raises(OpsError, match=rf"{tmp_path}: Is a directory: EMBEDKIT_GATEWAY_KEYS"):
        read_keys(Settings(gateway_keys=tmp_path))


def test_keys_that_nobody_took_are_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two lives of HAProxy a revoked key may still open it, and the command says so."""
    monkeypatch.setattr(control, "workers", lambda _: [])
    with pytest.raises(OpsError, match="no worker that could take the keys"):
        control.give_keys(Settings(var=tmp_path), {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Its mode is named, with the command that mends it."""
    settings = Settings(var=tmp_path)
    write_keys(settings, {})
    keys_file(settings).chmod(mode)
    with pytest.raises(OpsError, match=rf"mode 0{mode:o}.*chmod 600 {keys_file(settings)}"):
        read_keys(settings)


@pytest.mark.parametrize(
    "text", ["alice", "AB alice\n", f"{'a' * 64} alice", f"{'A' * 64}", f"{'A' * 64} al ice", f"{'A' * 64} a,b"]
)
def test_a_damaged_line_is_named_without_its_content(text: str) -> None:
    """The error has file and line, and nothing that could be a key."""
    with pytest.raises(OpsError, match="keys, line 2") as caught:
        parse_keys("# comment\n" + text, Path("keys"))
    assert text.strip() not in str(caught.value)


def test_a_digest_or_name_twice_is_refused() -> None:
    """Of two lines for one name or one key it would be open which counts."""
    line = f"{'A' * 64} alice\n"
    for second in (line, f"{'B' * 64} alice\n", f"{'A' * 64} bob\n"):
        with pytest.raises(OpsError, match=r"line 2.*twice"):
            parse_keys(line + second, Path("keys"))


@pytest.mark.parametrize("line", ["open anonymous", "open", "open x"])
def test_a_file_that_opens_beside_keys_is_refused(line: str) -> None:
    """HAProxy would let everybody in, and the keys say that nobody wants that."""
    for text in (f"{line}\n{'A' * 64} alice\n", f"{'A' * 64} alice\n{line}\n"):
        with pytest.raises(OpsError, match=r"line [12]: it lets everybody in"):
            parse_keys(text, Path("keys"))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-x", "x" * 65, "anonymous", "ä"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """Names are words for metrics and log."""
    with pytest.raises(OpsError, match="cannot name a key"):
        with_new({}, name)


def test_taken_and_unknown_names_are_told() -> None:
    """Adding what is there and revoking what is not say what to do."""
    keys, _ = with_new({}, "alice")
    with pytest.raises(OpsError, match="embedkit key revoke alice"):
        with_new(keys, "alice")
    with pytest.raises(OpsError, match="keys: alice"):
        without(keys, "bob")
    assert without(keys, "alice") == {}
    assert parse_keys(entries(keys), Path("keys")) == keys
