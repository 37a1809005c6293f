"""Small folders in ESC-50's layout, and clips without any audio."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf
from absl.testing import parameterized

from esc_tf.data.records import CachedClip, Record

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
CLASSES = {"dog": 0, "rooster": 1, "rain": 10}

# Target and name of all classes of ESC-50, as its table has them.
_NAMES = (
    "dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets "
    "chirping_birds water_drops wind pouring_water toilet_flush thunderstorm crying_baby sneezing "
    "clapping breathing coughing footsteps laughing brushing_teeth snoring drinking_sipping "
    "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter chainsaw siren car_horn "
    "engine train church_bells airplane fireworks hand_saw"
)
ESC50 = _NAMES.split()


class FolderTestCase(tf.test.TestCase, parameterized.TestCase):
    """A test with an empty folder of its own, ``self.root``."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()


def make_row(filename: str, fold: int, category: str, target: int, source: str) -> dict[str, str]:
    return {
        "filename": filename,
        "fold": str(fold),
        "target": str(target),
        "category": category,
        "esc10": "True",
        "src_file": source,
        "take": "A",
    }


def write_table(root: Path, rows: Sequence[dict[str, str]], columns=COLUMNS) -> Path:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "audio").mkdir(exist_ok=True)
    table = root / "meta" / "esc50.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table


def write_folder(root: Path, *, extension="wav", rate_hz=8000, folds=2, clips=2) -> list[dict]:
    """Write three classes of noise of 0.1 to 0.2 s; each clip is a recording of its own."""
    rng = np.random.default_rng(0)
    rows = []
    for fold in range(1, folds + 1):
        for category, target in CLASSES.items():
            for _ in range(clips):
                source = str(1000 + len(rows))
                name = f"{fold}-{source}-A-{target}.{extension}"
                rows.append(make_row(name, fold, category, target, source))
    write_table(root, rows)
    for row in rows:
        samples = rng.uniform(-0.5, 0.5, int(rng.integers(rate_hz // 10, rate_hz // 5)))
        soundfile.write(root / "audio" / row["filename"], samples, rate_hz)
    return rows


def make_clip(
    name: str,
    label_id: int = 0,
    fold: int = 1,
    source: str | None = None,
    digest: str | None = None,
) -> CachedClip:
    """A clip that exists in name only."""
    record = Record(name, label_id, f"class{label_id}", fold, source or name)
    return CachedClip(record, Path("nowhere"), 10, digest or f"digest of {name}")
