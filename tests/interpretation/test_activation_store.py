"""The folder of activations: whole or not there, read without being loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from esc_tf.errors import RequestError, UnknownNameError
from esc_tf.frames import TimeGrid
from esc_tf.interpretation.activation_store import ActivationStore, ActivationWriter, StoredClip

FACTS = {"source": "a test", "sample_rate_hz": 8000, "num_samples": 4000, "label_names": ["a"]}
GRIDS = {"block/1": (TimeGrid(0.1, 0.2), True), "embedding": (None, True)}


def make_values(num_clips: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "block/1": rng.standard_normal((num_clips, 5, 3, 2)).astype(np.float32),
        "embedding": rng.standard_normal((num_clips, 7)).astype(np.float32),
    }


def make_clips(*ids: str) -> list[StoredClip]:
    return [StoredClip(clip_id, 0.5, clip_id == "quiet") for clip_id in ids]


def write(folder: Path) -> dict[str, np.ndarray]:
    first, second = make_values(2), make_values(1, seed=1)
    with ActivationWriter(folder, FACTS) as writer:
        writer.append(make_clips("dog", "quiet"), first)
        writer.append(make_clips("räin"), second)
        writer.finish(GRIDS)
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def list_all(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    wanted = write(tmp_path / "deep" / "store")
    store = ActivationStore(tmp_path / "deep" / "store")
    assert store.facts == FACTS
    assert store.clips == (*make_clips("dog", "quiet"), *make_clips("räin"))
    assert [clip.is_silent for clip in store.clips] == [False, True, False]
    assert store.names == ("block/1", "embedding")
    for name, values in wanted.items():
        found = store.open(name)
        assert isinstance(found, np.memmap) and found.dtype == np.float32
        np.testing.assert_array_equal(found, values)
    assert store.describe("block/1").grid == TimeGrid(0.1, 0.2)
    assert store.describe("embedding").grid is None
    assert store.find_row("räin") == 2
    # Nothing but the store is left, and each file is one that NumPy alone reads.
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["store"]
    assert np.load(tmp_path / "deep" / "store" / "embedding.npy").shape == (3, 7)


def test_many_appends_make_the_file_that_numpy_writes(tmp_path: Path) -> None:
    rows = np.arange(1200 * 2, dtype=np.float32).reshape(1200, 2)
    with ActivationWriter(tmp_path / "store", FACTS) as writer:
        for row in range(1200):
            writer.append(make_clips(str(row)), {"x": rows[row : row + 1]})
        writer.finish({"x": (None, True)})
    np.save(tmp_path / "wanted.npy", rows)
    wanted = (tmp_path / "wanted.npy").read_bytes()
    assert (tmp_path / "store" / "x.npy").read_bytes() == wanted


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ActivationWriter(tmp_path / "store", FACTS) as writer:
        writer.append(make_clips("dog", "rain"), make_values(2))
        raise RuntimeError
    assert list_all(tmp_path) == []


def test_a_killed_process_leaves_no_folder_of_that_name(tmp_path: Path) -> None:
    code = """
import os, signal, sys
import numpy as np
from esc_tf.interpretation.activation_store import ActivationWriter, StoredClip
with ActivationWriter(sys.argv[1], {}) as writer:
    writer.append([StoredClip("dog", 1.0, False)], {"x": np.zeros((1, 1000), np.float32)})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".store.") and left.name.endswith(".partial")
    write(tmp_path / "store")
    assert len(ActivationStore(tmp_path / "store").clips) == 3


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    wanted = write(tmp_path / "store")
    with pytest.raises(RequestError, match="store: is there already; name another folder"):
        ActivationWriter(tmp_path / "store", FACTS)
    np.testing.assert_array_equal(
        ActivationStore(tmp_path / "store").open("embedding"), wanted["embedding"]
    )
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert len(ActivationStore(tmp_path / "empty").clips) == 3


def test_two_clips_of_one_id_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(RequestError, match="dog: two clips have this id"),
        ActivationWriter(tmp_path / "store", FACTS) as writer,
    ):
        writer.append(make_clips("dog", "dog"), make_values(2))
    assert list_all(tmp_path) == []


def test_no_clips_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(RequestError, match="there are no clips"),
        ActivationWriter(tmp_path / "store", FACTS) as writer,
    ):
        writer.finish({})
    assert list_all(tmp_path) == []


def test_other_names_rows_or_shapes_are_refused(tmp_path: Path) -> None:
    with ActivationWriter(tmp_path / "store", FACTS) as writer:
        writer.append(make_clips("dog"), {"x": np.zeros((1, 2), np.float32)})
        for clip, values, words in (
            ("a", {"y": np.zeros((1, 2))}, "other names"),
            ("b", {"x": np.zeros((2, 2))}, "2 rows for 1 clips"),
            ("c", {"x": np.zeros((1, 3))}, r"rows of \(3,\), not \(2,\)"),
        ):
            with pytest.raises(ValueError, match=words):
                writer.append(make_clips(clip), values)


# --- what cannot be read


def test_unknown_names_and_clips(tmp_path: Path) -> None:
    write(tmp_path / "store")
    store = ActivationStore(tmp_path / "store")
    with pytest.raises(UnknownNameError, match=r"'block1'; did you mean 'block/1'\?"):
        store.open("block1")
    with pytest.raises(UnknownNameError, match=r"no clip 'dogs'; did you mean 'dog'\?"):
        store.find_row("dogs")


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file.*name a folder of collected activations"):
        ActivationStore(tmp_path)
    for text in ("{", "[]", '{"format": 2}', json.dumps({"format": 1, "model": {}})):
        (tmp_path / "activations.json").write_text(text)
        with pytest.raises(RequestError, match="describes no activations.*collect them again"):
            ActivationStore(tmp_path)


def test_a_damaged_array(tmp_path: Path) -> None:
    write(tmp_path / "store")
    path = tmp_path / "store" / "embedding.npy"
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:20]):
        path.write_bytes(damaged)
        with pytest.raises(RequestError, match="embedding.npy: cannot be read"):
            ActivationStore(tmp_path / "store").open("embedding")
    np.save(path, np.zeros((2, 7), np.float32))
    with pytest.raises(RequestError, match="not the float32 values of 3 clips"):
        ActivationStore(tmp_path / "store").open("embedding")
    path.unlink()
    with pytest.raises(RequestError, match="No such file"):
        ActivationStore(tmp_path / "store").open("embedding")
