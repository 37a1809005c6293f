"""Which folders are versions, and which of them are wanted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.models.config import ModelConfig, VersionPolicy
from serving.models.versions import (
    choose_versions,
    list_versions,
    parse_version,
    take_fingerprint,
)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("0", 0),
        ("00000123", 123),
        ("20260101123456", 20260101123456),
        (" 7", 7),
        ("+7", 7),
        ("-1", -1),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        ("v1", None),
        ("1.5", None),
        ("1_000", None),
        ("1e3", None),
        ("0x10", None),
        ("²", None),
        ("٣", None),
        ("", None),
        (".1.abc.partial", None),
        ("1-backup", None),
    ],
)
def test_a_name_is_a_version_where_serving_reads_a_number(name: str, version: int | None) -> None:
    assert parse_version(name) == version


def make(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).mkdir(parents=True)
    return base


def choose(base: Path, policy: VersionPolicy) -> list[int] | None:
    found = choose_versions(ModelConfig("m", base, policy))
    return None if found is None else list(found)


def test_versions_are_found_by_number_and_not_by_name(tmp_path: Path) -> None:
    make(tmp_path, "9", "10", "002", "notes", "tmp")
    (tmp_path / "README").touch()
    assert list_versions(tmp_path) == {
        2: tmp_path / "002",
        9: tmp_path / "9",
        10: tmp_path / "10",
    }


def test_of_two_names_of_one_number_the_last_counts(tmp_path: Path) -> None:
    make(tmp_path, "1", "001", "01")
    assert list_versions(tmp_path) == {1: tmp_path / "1"}


def test_a_base_path_that_is_away_says_nothing_and_an_empty_one_says_none(tmp_path: Path) -> None:
    assert list_versions(tmp_path / "away") is None
    assert list_versions(tmp_path) == {}
    assert choose(tmp_path / "away", VersionPolicy()) is None
    assert choose(tmp_path, VersionPolicy()) == []


def test_policies(tmp_path: Path) -> None:
    make(tmp_path, "1", "2", "3", "11")
    assert choose(tmp_path, VersionPolicy()) == [11]
    assert choose(tmp_path, VersionPolicy("latest", num_versions=0)) == [11]
    assert choose(tmp_path, VersionPolicy("latest", num_versions=2)) == [3, 11]
    assert choose(tmp_path, VersionPolicy("latest", num_versions=9)) == [1, 2, 3, 11]
    assert choose(tmp_path, VersionPolicy("all")) == [1, 2, 3, 11]
    assert choose(tmp_path, VersionPolicy("specific", versions=(3, 1, 7))) == [1, 3]
    assert choose(tmp_path, VersionPolicy("specific", versions=(7,))) == []


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    folder = make(tmp_path, "1/variables") / "1"
    empty = take_fingerprint(folder)
    file = folder / "variables" / "weights"
    file.write_bytes(b"abc")
    os.utime(file, ns=(1, 1))
    one = take_fingerprint(folder)
    assert len({empty, one}) == 2
    assert take_fingerprint(folder) == one
    file.write_bytes(b"abd")
    assert take_fingerprint(folder) != one
    assert take_fingerprint(tmp_path / "none") == frozenset()
