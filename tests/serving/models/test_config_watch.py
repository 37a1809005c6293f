"""The model config file, followed while the server runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.errors import ServingError
from serving.models.config import ModelConfig, read_model_config_file
from serving.models.config_watch import ConfigWatch
from tests.serving.models.fakes import wait_until


def text_of(*names: str) -> str:
    configs = "".join(
        f"config {{ name: '{name}' base_path: '/{name}' model_platform: 'tensorflow' }}"
        for name in names
    )
    return f"model_config_list {{ {configs} }}"


class Recorder:
    """What the manager is asked for; refuses models of the name ``bad``."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.lines: list[str] = []

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        self.asked.append([config.name for config in configs])
        if "bad" in self.asked[-1]:
            raise ServingError("FAILED_PRECONDITION", "no such thing")


def make(tmp_path: Path, recorder: Recorder, wait_s: float = 0.005) -> ConfigWatch:
    path = tmp_path / "models.config"
    path.write_text(text_of("a"))
    return ConfigWatch(
        path,
        read_model_config_file(path),
        recorder.reload,
        wait_s=wait_s,
        report=recorder.lines.append,
    )


def test_only_changes_are_followed(tmp_path: Path) -> None:
    recorder = Recorder()
    watch = make(tmp_path, recorder)
    watch.look()
    assert recorder.asked == []
    (tmp_path / "models.config").write_text(text_of("a", "b"))
    watch.look()
    watch.look()
    assert recorder.asked == [["a", "b"]]
    assert len(recorder.lines) == 1


def test_what_is_wrong_is_said_once_and_changes_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    watch = make(tmp_path, recorder)
    path = tmp_path / "models.config"
    for text in ("", "model_config_list {"):
        path.write_text(text)
        watch.look()
        watch.look()
    path.unlink()
    watch.look()
    watch.look()
    assert recorder.asked == []
    assert len(recorder.lines) == 3
    assert all(line.startswith("the models stay as they are: ") for line in recorder.lines)
    path.write_text(text_of("a"))  # as at the start
    watch.look()
    assert recorder.asked == []


def test_what_the_manager_refuses_is_tried_again(tmp_path: Path) -> None:
    recorder = Recorder()
    watch = make(tmp_path, recorder)
    (tmp_path / "models.config").write_text(text_of("bad"))
    watch.look()
    watch.look()
    assert recorder.asked == [["bad"]] * 2
    assert recorder.lines == ["the models stay as they are: no such thing"]
    (tmp_path / "models.config").write_text(text_of("a"))  # back: what stands is uncertain
    watch.look()
    assert recorder.asked[2:] == [["a"]]


def test_the_thread_looks_by_itself(tmp_path: Path) -> None:
    recorder = Recorder()
    watch = make(tmp_path, recorder)
    watch.start()
    try:
        (tmp_path / "models.config").write_text(text_of("c"))
        wait_until(lambda: ["c"] in recorder.asked)
    finally:
        watch.close()
