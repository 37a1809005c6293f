"""Loading, switching, failing and unloading, without TensorFlow."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.batching.parameters import BatchingParameters
from serving.errors import ServingError
from serving.models.config import VersionPolicy
from serving.models.manager import ModelManager
from serving.models.states import VersionStatus
from tests.serving.models.fakes import (
    WAIT_S,
    FakeLoader,
    answer,
    config,
    managing,
    put,
    states,
    wait_for_states,
    wait_until,
)


def refusal(manager: ModelManager, name: str = "m", **which: object) -> tuple[str, str]:
    with pytest.raises(ServingError) as caught, manager.lease(name, **which):  # type: ignore[arg-type]
        pass
    return caught.value.code, caught.value.message


# --- what is there at the start


def test_the_newest_answers(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        put(tmp_path, version)
    with managing(config(tmp_path)) as manager:
        assert manager.status("m") == [VersionStatus(10, "AVAILABLE")]
        assert answer(manager) == 10.0
        assert manager.is_ready()
        assert manager.model_names == ("m",)


def test_all_versions_answer_by_number(tmp_path: Path) -> None:
    put(tmp_path, "0001")
    put(tmp_path, 3)
    with managing(config(tmp_path, VersionPolicy("all"))) as manager:
        assert [status.version for status in manager.status("m")] == [3, 1]
        assert answer(manager, version=1) == 1.0
        assert answer(manager) == 3.0


def test_what_is_not_there_is_said_in_serving_s_words(tmp_path: Path) -> None:
    put(tmp_path, 1)
    with managing(config(tmp_path)) as manager:
        assert refusal(manager, "n") == ("NOT_FOUND", "Servable not found for request: Latest(n)")
        assert refusal(manager, version=2) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 2)",
        )
        assert refusal(manager, label="old") == (
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: old",
        )
        for name, version, words in (
            ("n", None, "Could not find any versions of model n"),
            ("m", 2, "Could not find version 2 of model m"),
        ):
            with pytest.raises(ServingError, match=words) as caught:
                manager.status(name, version)
            assert caught.value.code == "NOT_FOUND"
        assert manager.status("m", 1) == [VersionStatus(1, "AVAILABLE")]
        assert manager.status("m", None, "no such label") == manager.status("m")


@pytest.mark.parametrize("missing", [True, False])
def test_a_model_that_is_not_there_yet_is_waited_for(tmp_path: Path, missing: bool) -> None:
    base, other = tmp_path / "base", tmp_path / "other"
    put(other, 7)
    if not missing:
        base.mkdir()
        (base / "notes").mkdir()
    with managing(config(base), config(other, name="there")) as manager:
        assert states(manager, "there") == {7: "AVAILABLE"}
        assert refusal(manager)[0] == "NOT_FOUND"
        assert not manager.is_ready()
        put(base, 1)
        wait_for_states(manager, {1: "AVAILABLE"})
        assert manager.is_ready()
        said = "Could not find base path" if missing else "No versions found under base path"
        assert sum(said in line for line in manager.lines) == 1  # type: ignore[attr-defined]


def test_a_broken_model_does_not_hold_up_the_others(tmp_path: Path) -> None:
    put(tmp_path / "a", 1, "broken")
    put(tmp_path / "b", 1, "crash")
    put(tmp_path / "c", 1)
    models = [config(tmp_path / name, name=name) for name in "abc"]
    with managing(*models) as manager:
        (status,) = manager.status("a")
        assert (status.state, status.error_code) == ("END", "DATA_LOSS")
        assert status.error_message.endswith("as binary proto")
        assert manager.status("b") == [VersionStatus(1, "END", "UNKNOWN", "RuntimeError: surprise")]
        assert states(manager, "c") == {1: "AVAILABLE"}
        assert not manager.is_ready()


# --- what changes later


def test_a_new_version_is_loaded_before_the_old_one_goes(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1)
    with managing(config(tmp_path), load=load) as manager:
        load.gate.clear()
        put(tmp_path, 2)
        wait_for_states(manager, {1: "AVAILABLE", 2: "LOADING"})
        assert answer(manager) == 1.0
        assert refusal(manager, version=2)[0] == "NOT_FOUND"
        load.gate.set()
        wait_for_states(manager, {1: "END", 2: "AVAILABLE"})
        assert answer(manager) == 2.0
        assert refusal(manager, version=1)[0] == "NOT_FOUND"
        assert load.freed == ["m/1"]


def test_a_broken_new_version_leaves_the_old_one_serving(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1)
    with managing(config(tmp_path), load=load) as manager:
        broken = put(tmp_path, 2, "broken")
        wait_for_states(manager, {1: "AVAILABLE", 2: "END DATA_LOSS"})
        assert answer(manager) == 1.0
        assert manager.is_ready()
        put(tmp_path, 3)
        wait_for_states(manager, {1: "END", 2: "END DATA_LOSS", 3: "AVAILABLE"})
        shutil.rmtree(broken)
        put(tmp_path, 4)
        wait_for_states(manager, {1: "END", 2: "END DATA_LOSS", 3: "END", 4: "AVAILABLE"})
    assert load.loads == ["m/1", "m/2", "m/3", "m/4"]  # with no retry of what did not change
    assert sorted(load.freed) == ["m/1", "m/3", "m/4"]


def test_a_broken_version_that_goes_away_leaves_the_old_one_serving(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1)
    with managing(config(tmp_path), load=load) as manager:
        broken = put(tmp_path, 2, "broken")
        wait_for_states(manager, {1: "AVAILABLE", 2: "END DATA_LOSS"})
        shutil.rmtree(broken)
        put(tmp_path, 2)
        wait_for_states(manager, {1: "END", 2: "AVAILABLE"})
        assert answer(manager) == 2.0


def test_a_version_that_is_copied_slowly_is_tried_again_when_it_changes(tmp_path: Path) -> None:
    load = FakeLoader()
    with managing(config(tmp_path), load=load) as manager:
        (tmp_path / "1").mkdir()
        wait_for_states(manager, {1: "END DATA_LOSS"})
        (tmp_path / "1" / "model").write_text("sound")
        wait_for_states(manager, {1: "AVAILABLE"})
    assert load.loads == ["m/1", "m/1"]


def test_a_broken_version_is_tried_again_so_often_and_no_more(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1, "broken")
    how = {"num_load_retries": 2, "load_retry_interval_s": 0.01}
    with managing(config(tmp_path), load=load, **how) as manager:
        wait_until(lambda: len(load.loads) == 3)
        put(tmp_path, 2)  # several looks later
        wait_for_states(manager, {1: "END DATA_LOSS", 2: "AVAILABLE"})
    assert load.loads == ["m/1"] * 3 + ["m/2"]


def test_retries_do_not_need_looks(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1, "broken")
    how = {"num_load_retries": 3, "load_retry_interval_s": 0.01, "poll_wait_s": 0}
    with managing(config(tmp_path), load=load, **how):
        wait_until(lambda: len(load.loads) == 4)


def test_a_version_in_use_is_unloaded_when_the_last_request_is_done(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1)
    with managing(config(tmp_path), load=load) as manager:
        with manager.lease("m") as one, manager.lease("m", 1) as same:
            assert one is same
            put(tmp_path, 2)
            wait_for_states(manager, {1: "UNLOADING", 2: "AVAILABLE"})
            assert answer(manager) == 2.0
            assert one.run("", {"x": np.zeros(1)})["y"].tolist() == [1.0]
            assert load.freed == []
        wait_for_states(manager, {1: "END", 2: "AVAILABLE"})
        assert load.freed == ["m/1"]


def test_a_version_may_come_back_while_the_old_one_is_still_in_use(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1)
    put(tmp_path, 2)
    with managing(config(tmp_path, VersionPolicy("all")), load=load) as manager:
        with manager.lease("m", 1):
            shutil.rmtree(tmp_path / "1")
            wait_for_states(manager, {1: "UNLOADING", 2: "AVAILABLE"})
            put(tmp_path, 1)
            wait_for_states(manager, {1: "AVAILABLE", 2: "AVAILABLE"})
        wait_until(lambda: load.freed == ["m/1"])
        assert states(manager) == {1: "AVAILABLE", 2: "AVAILABLE"}


def test_versions_go_when_they_are_removed_but_not_when_the_share_is_away(tmp_path: Path) -> None:
    base, aside = tmp_path / "base", tmp_path / "aside"
    put(base, 1)
    with managing(config(base)) as manager:
        base.rename(aside)
        wait_until(lambda: any("Could not find base path" in line for line in manager.lines))  # type: ignore[attr-defined]
        assert answer(manager) == 1.0
        aside.rename(base)
        shutil.rmtree(base / "1")
        wait_for_states(manager, {1: "END"})
        assert refusal(manager)[0] == "NOT_FOUND"


def test_without_polling_only_what_was_there_is_served(tmp_path: Path) -> None:
    put(tmp_path, 1)
    models = [config(tmp_path)]
    with managing(*models, poll_wait_s=0) as manager:
        put(tmp_path, 2)
        manager.reload(models)  # looks
        assert states(manager) == {1: "END", 2: "AVAILABLE"}
        put(tmp_path, 3)
        assert answer(manager) == 2.0


def test_close_waits_for_requests_and_frees_everything(tmp_path: Path) -> None:
    load = FakeLoader()
    put(tmp_path, 1)
    put(tmp_path, 2)
    manager = ModelManager(
        [config(tmp_path, VersionPolicy("all"))], load=load, report=lambda line: None
    )
    manager.start()
    with manager.lease("m", 1):
        closing = threading.Thread(target=manager.close)
        closing.start()
        wait_until(lambda: load.freed == ["m/2"])
        assert closing.is_alive()
    closing.join(WAIT_S)
    assert load.freed == ["m/2", "m/1"]
    assert states(manager) == {1: "END", 2: "END"}


# --- other models, other labels


def test_reload_changes_models_policies_and_labels(tmp_path: Path) -> None:
    load = FakeLoader()
    one, two = tmp_path / "one", tmp_path / "two"
    for version in (1, 2, 3):
        put(one, version)
    put(two, 5)
    with managing(config(one, name="m"), load=load) as manager:
        both = VersionPolicy("specific", versions=(1, 2))
        manager.reload([config(one, both, version_labels={"stable": 1}), config(two, name="new")])
        assert states(manager) == {1: "AVAILABLE", 2: "AVAILABLE", 3: "END"}
        assert states(manager, "new") == {5: "AVAILABLE"}
        assert answer(manager, label="stable") == 1.0
        manager.reload([config(one, both, version_labels={"stable": 2})])
        assert answer(manager, label="stable") == 2.0
        assert manager.model_names == ("m",)
        assert states(manager, "new") == {5: "END"}
        assert refusal(manager, "new")[0] == "NOT_FOUND"


def test_a_label_is_refused_and_the_old_labels_stay(tmp_path: Path) -> None:
    put(tmp_path, 1)
    everything = VersionPolicy("all")
    with managing(config(tmp_path, everything, version_labels={"stable": 1})) as manager:
        assert answer(manager, label="stable") == 1.0
        with pytest.raises(ServingError, match="Request to assign label to version 2 of model m"):
            manager.reload([config(tmp_path, everything, version_labels={"stable": 2})])
        assert answer(manager, label="stable") == 1.0


def test_a_wrong_list_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, 1)
    with managing(config(tmp_path)) as manager:
        with pytest.raises(ServingError, match="multiple times"):
            manager.reload([config(tmp_path), config(tmp_path)])
        assert answer(manager) == 1.0
    with pytest.raises(ServingError, match="multiple times"):
        ModelManager([config(tmp_path), config(tmp_path)])


def test_a_label_of_a_version_that_is_not_there_stops_the_start_unless_allowed(
    tmp_path: Path,
) -> None:
    put(tmp_path, 1)
    models = config(tmp_path, VersionPolicy("all"), version_labels={"canary": 2})
    unavailable = pytest.raises(ServingError, match="not currently available for inference")
    with managing(models, start=False) as manager, unavailable:
        manager.start()
    with managing(models, allow_labels_for_unavailable=True) as manager:
        assert refusal(manager, label="canary") == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 2)",
        )
        put(tmp_path, 2)
        wait_for_states(manager, {1: "AVAILABLE", 2: "AVAILABLE"})
        assert answer(manager, label="canary") == 2.0


def test_requests_go_on_while_versions_come_and_go(tmp_path: Path) -> None:
    put(tmp_path, 1)
    answers: list[float] = []
    errors: list[Exception] = []
    done = threading.Event()
    with managing(config(tmp_path)) as manager:

        def ask() -> None:
            while not done.is_set():
                try:
                    answers.append(answer(manager))
                except Exception as error:
                    errors.append(error)
                    return

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for version in range(2, 30):
            put(tmp_path, version)
            wait_until(lambda version=version: float(version) in answers[-50:])  # type: ignore[misc]
        done.set()
        for client in clients:
            client.join(WAIT_S)
        assert errors == []
        assert states(manager)[29] == "AVAILABLE"


# --- batching


def test_requests_are_batched_and_a_version_may_bring_its_own_parameters(tmp_path: Path) -> None:
    put(tmp_path, 1)
    own = put(tmp_path, 2) / "batching_params.pbtxt"
    own.write_text("max_batch_size { value: 2 }")
    too_many = {"x": np.zeros(4, np.float32)}

    def refuse_more_than(limit: int) -> Any:
        return pytest.raises(ServingError, match=f"maximum input batch size {limit}$")

    everything = config(tmp_path, VersionPolicy("all"))
    runs: list[object] = []
    with managing(
        everything, batching=BatchingParameters(max_batch_size=3), observe_batch=runs.append
    ) as manager:
        assert answer(manager) == 2.0
        assert len(runs) == 1
        assert manager.num_queued == 0
        with (
            manager.lease("m") as servable,
            refuse_more_than(3),
        ):
            servable.run("", too_many)
    how = {"batching": BatchingParameters(max_batch_size=3), "batching_per_model": True}
    with managing(everything, **how) as manager:
        with (
            manager.lease("m") as servable,
            refuse_more_than(2),
        ):
            servable.run("", too_many)
        with manager.lease("m", 1) as servable:  # without parameters, without batching
            assert servable.run("", too_many)["y"].tolist() == [1.0] * 4


def test_wrong_parameters_of_its_own_are_a_version_s_error(tmp_path: Path) -> None:
    (put(tmp_path, 1) / "batching_params.pbtxt").write_text("max_batch_size: 3")
    how = {"batching": BatchingParameters(), "batching_per_model": True}
    with managing(config(tmp_path), **how) as manager:
        (status,) = manager.status("m")
    assert (status.state, status.error_code) == ("END", "INVALID_ARGUMENT")
    assert "no text proto of BatchingParameters" in status.error_message
