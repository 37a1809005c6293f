"""Names of classes, from AudioSet's table and from plain lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from esc_tf.errors import RequestError
from esc_tf.models.checkpoints.label_names import read_label_names
from tests.shared_files import shared_path

TABLE = 'index,mid,display_name\n0,/m/1,"Speech"\n1,/m/2,"Male speech, man speaking"\n'


def test_a_table(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(TABLE)
    assert read_label_names(path) == ["Speech", "Male speech, man speaking"]
    lines = TABLE.splitlines()
    path.write_text("\r\n".join([lines[0], lines[2], lines[1]]), encoding="utf-8-sig")
    assert read_label_names(path) == ["Speech", "Male speech, man speaking"]


def test_a_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("dog\n Hen, clucking \nindex\n\n")
    assert read_label_names(path) == ["dog", "Hen, clucking", "index"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no names"),
        ("\n\n", "holds no names"),
        ("dog\n\ncat\n", "class 1 has no name"),
        ("dog\ncat\ndog\n", "the name 'dog' is there twice"),
        (TABLE + "1,/m/3,Cat\n", "index 1 is there twice"),
        (TABLE + "3,/m/3,Cat\n", "index 2 is missing"),
        (TABLE + "x,/m/3,Cat\n", "line 4 has no number"),
        (TABLE + "2,/m/3\n", "class 2 has no name"),
        (TABLE + "2,/m/3,Speech\n", "the name 'Speech' is there twice"),
        ("index,mid,display_name\n", "holds no names"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(RequestError, match=f"labels.csv: {message}"):
        read_label_names(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_label_names(tmp_path / "no.csv")
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="is not UTF-8 text"):
        read_label_names(path)


def test_audioset_s_own_table() -> None:
    names = read_label_names(shared_path("checkpoints/audioset_class_labels_indices.csv"))
    assert len(names) == 527
    assert names[:2] == ["Speech", "Male speech, man speaking"]
