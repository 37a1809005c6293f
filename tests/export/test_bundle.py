"""A folder that is there whole or not at all, whatever happens while it is filled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from esc_tf.cards import CARD_FILE
from esc_tf.errors import RequestError
from export import bundle as bundle_module
from export.bundle import LABELS_FILE, VERIFICATION_FILE, Bundle

ROOT = Path(__file__).resolve().parents[2]


def publish(out: Path, *, version: int = 1, overwrite: bool = False, text: str = "new") -> None:
    with Bundle(out, overwrite) as bundle:
        model = bundle.staging / "saved_model" / str(version)
        model.mkdir(parents=True)
        (model / "saved_model.pb").write_text(text)
        (bundle.staging / LABELS_FILE).write_text(text)
        bundle.publish()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_there_before_all_is(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with Bundle(out) as bundle:
        (bundle.staging / LABELS_FILE).write_text("a")
        assert not out.exists()
        assert bundle.staging.parent == out.parent  # on the same disk
        bundle.publish()
        assert (out / LABELS_FILE).read_text() == "a"
    assert names_in(out.parent) == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="midway"), Bundle(tmp_path / "out") as bundle:
        (bundle.staging / LABELS_FILE).write_text("a")
        raise ValueError("midway")
    assert names_in(tmp_path) == []


def test_what_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, text="old")
    with pytest.raises(RequestError, match="add --overwrite"):
        publish(out)
    assert (out / LABELS_FILE).read_text() == "old"
    publish(out, overwrite=True)
    assert (out / LABELS_FILE).read_text() == "new"
    assert names_in(tmp_path) == ["out"]


def test_other_versions_of_the_saved_model_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, version=1, text="one")
    publish(out, version=2, text="two", overwrite=True)
    publish(out, version=2, text="better", overwrite=True)
    found = {path.parent.name: path.read_text() for path in out.rglob("saved_model.pb")}
    assert found == {"1": "one", "2": "better"}


def test_folders_can_change_places_without_the_system_s_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module.ctypes, "CDLL", lambda *args, **kwargs: None)
    publish(tmp_path / "out", text="old")
    publish(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / LABELS_FILE).read_text() == "new"
    assert names_in(tmp_path) == ["out"]


def test_other_people_s_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RequestError, match="holds thesis.tex, which no export writes"):
        publish(tmp_path, overwrite=True)
    with pytest.raises(RequestError, match="is a file"):
        publish(tmp_path / "thesis.tex")
    with pytest.raises(RequestError, match="name another"):
        Bundle("/").check()


def test_an_empty_folder_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    publish(tmp_path / "out")
    assert (tmp_path / "out" / LABELS_FILE).is_file()


def test_a_failed_verification_keeps_its_report_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Bundle(out) as bundle:
        (bundle.staging / CARD_FILE).write_text("{}")
        path = bundle.reject({"passed": False})
    assert names_in(tmp_path) == ["out.failed"]
    assert path == tmp_path / "out.failed" / VERIFICATION_FILE
    assert json.loads(path.read_text()) == {"passed": False}
    publish(out)  # it has been made good
    assert names_in(tmp_path) == ["out"]


# Needs no TensorFlow: as long as it lives, the folder is half full.
_HALF_WAY = """
import signal, sys, time
# Shells let what they start in the background ignore Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from export.bundle import Bundle
from esc_tf.training.termination import StopSignal
with StopSignal(), Bundle(sys.argv[1], overwrite=True) as bundle:
    (bundle.staging / "labels.txt").write_text("half")
    print("half way", flush=True)
    time.sleep(60)
    bundle.publish()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_ends_half_way_changes_nothing(tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    publish(out, text="old")
    with subprocess.Popen(
        [sys.executable, "-c", _HALF_WAY, str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half way\n"
        # Another export to the same place leaves the folder of a living process alone.
        with Bundle(out, overwrite=True) as bundle:
            assert len(names_in(tmp_path)) == 3
            (bundle.staging / LABELS_FILE).write_text("other")
        process.send_signal(number)
        process.wait()
    assert (out / LABELS_FILE).read_text() == "old"
    if number == signal.SIGKILL:
        (abandoned,) = set(names_in(tmp_path)) - {"out"}
        assert abandoned.startswith("out.") and abandoned.endswith(".partial")
    publish(out, overwrite=True)
    assert names_in(tmp_path) == ["out"]
