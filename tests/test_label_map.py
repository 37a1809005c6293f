"""Label maps: what is accepted, what is refused and how it is told, and the one that is shipped."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from esc_tf.config.label_map import load_label_map
from esc_tf.data.classes import ESC10_CLASSES
from esc_tf.errors import ConfigError
from esc_tf.evaluation.label_mapping import map_scores
from tests.shared_files import shared_path

LABEL_MAPS = sorted((Path(__file__).resolve().parents[1] / "configs" / "label_map").glob("*.yaml"))
LABELS = ("Speech", "Dog", "Bark", "Rain", "Raindrop", "Crying, sobbing")


def write_map(folder: Path, text: str) -> Path:
    path = folder / "map.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_label_map(write_map(folder, text)).find_labels(LABELS)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_a_class_scores_as_its_best_label(tmp_path: Path) -> None:
    text = 'labels: {dog: [Bark, Dog], baby: ["Crying, sobbing"]}'
    label_map = load_label_map(write_map(tmp_path, text))
    assert label_map.class_names == ("dog", "baby")
    groups = label_map.find_labels(LABELS)
    assert groups == [[2, 1], [5]]
    scores = np.array([[0.9, 0.1, 0.3, 0.0, 0.0, 0.2], [0.0, 0.4, 0.3, 0.8, 0.0, 0.5]], np.float32)
    np.testing.assert_array_equal(map_scores(scores, groups), np.float32([[0.3, 0.2], [0.4, 0.5]]))


def test_unknown_labels_are_all_listed_with_near_matches(tmp_path: Path) -> None:
    first, second = problems_of(tmp_path, "labels: {dog: [Dog, Brak], rain: [Rayn]}")
    assert first.startswith("labels.dog: the model has no label 'Brak'; did you mean 'Bark'?")
    assert second.startswith("labels.rain: the model has no label 'Rayn'; did you mean 'Rain'?")
    assert first.endswith("(it has 6: Speech, Dog, Bark, Rain, Raindrop, ...)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {dog: [Dog, Bark], rain: [Rain, Dog]}", "'Dog' stands twice, for dog and rain"),
        ("labels: {dog: [Dog, Dog]}", "labels: 'Dog' stands twice, for dog"),
        ("labels: {dog: []}", "labels.dog: must have at least 1 item"),
        ("labels: {dog: Dog}", "labels.dog: must be a list, not 'Dog'"),
        ("labels: {}", "labels: must have at least 1 item"),
        ("label: {dog: [Dog]}", "label: unknown key; did you mean 'labels'?"),
        ("classes: {dog: [Dog]}", "labels: is required"),
        ("labels: [dog]", "labels: must be a mapping"),
        ("labels: {dog: [Dog]", "map.yaml"),
    ],
)
def test_what_is_no_label_map_is_told(tmp_path: Path, text: str, message: str) -> None:
    problems = problems_of(tmp_path, text)
    assert any(message in problem for problem in problems), problems
    assert all("map.yaml" in problem for problem in problems)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_label_map(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", LABEL_MAPS, ids=lambda path: path.stem)
def test_a_shipped_map_uses_labels_that_there_are(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    table = shared_path("checkpoints/audioset_class_labels_indices.csv")
    with table.open(encoding="utf-8", newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    assert len(names) == 527
    load_label_map(path).find_labels(names)


def test_esc10_is_mapped_whole() -> None:
    (path,) = (path for path in LABEL_MAPS if path.stem == "esc10_audioset")
    assert set(load_label_map(path).class_names) == set(ESC10_CLASSES)
