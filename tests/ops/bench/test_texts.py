"""Texts: seeded, never repeated, of the lengths that their profile says."""

import statistics

import pytest

from ops.bench import texts as texts_module
from ops.bench.texts import PROFILES, Lengths, Profile, Texts
from ops.errors import OpsError


def units(text: str, index: int) -> int:
    """Chinese texts come first and count characters; English ones count words."""
    return len(text) if index % 2 == 0 else len(text.split())


@pytest.mark.parametrize("profile", PROFILES)
def test_lengths_are_within_the_profile(profile: Profile) -> None:
    """No text is shorter or longer than its profile allows."""
    lengths = [units(text, index) for index, text in enumerate(Texts(3).take(profile, 600))]
    assert min(lengths) >= PROFILES[profile].shortest
    assert max(lengths) <= PROFILES[profile].longest


def test_short_texts_use_the_whole_range() -> None:
    """Queries of 4 and of 24 characters or words both come, and all between."""
    lengths = {units(text, index) for index, text in enumerate(Texts(3).take("short", 2000))}
    assert set(range(4, 25)) == lengths


def test_mixed_lengths_have_a_long_tail() -> None:
    """Half are below 48 units, some beyond 256 and a few beyond 512: what models cut at."""
    lengths = [units(text, index) for index, text in enumerate(Texts(3).take("mixed", 4000))]
    assert 34 < statistics.median(lengths) < 48
    assert 0.01 < sum(length > 256 for length in lengths) / 4000 < 0.08
    assert sum(length > 512 for length in lengths) >= 5


def test_half_are_chinese() -> None:
    """Chinese and English take turns."""
    taken = Texts(1).take("passages", 100)
    assert all(any("一" <= character <= "鿿" for character in text) for text in taken[0::2])
    assert all(sum(character.isascii() for character in text) > 0.9 * len(text) for text in taken[1::2])


def test_no_text_comes_twice_in_a_run() -> None:
    """Over all profiles and calls, every text differs from every other."""
    source = Texts(5)
    taken = [text for profile in PROFILES for _ in range(3) for text in source.take(profile, 2000)]
    assert len(set(taken)) == len(taken) == len(source)


def test_a_seed_gives_the_same_texts_again() -> None:
    """The same seed, the same texts; another seed, others."""
    assert Texts(7).take("mixed", 50) == Texts(7).take("mixed", 50)
    assert not set(Texts(7).take("mixed", 50)) & set(Texts(8).take("mixed", 50))


def test_texts_that_run_out_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile too small for what is asked of it ends in words, not in a repeated text or an endless search."""
    monkeypatch.setitem(texts_module.PROFILES, "short", Lengths(1, 1))
    with pytest.raises(OpsError, match="no more short texts"):
        Texts(1).take("short", 10_000)
