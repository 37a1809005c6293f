from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from esc_tf.config import build_experiment, dump_experiment, load_experiment
from esc_tf.config.loading import apply_overrides, merge, read_config_file
from esc_tf.errors import EXIT_BAD_REQUEST, ConfigError
from tests.config.base import SHORTEST, build_with, problems_with

WriteFile = Callable[[str, str], Path]

COMPLETE = """
name: complete
data: {name: synthetic}
front_end: {name: log_mel}
model: {name: se_cnn}
"""


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert caught.value.exit_code == EXIT_BAD_REQUEST
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


# --- files


def test_defaults_fill_what_a_file_leaves_out(write: WriteFile) -> None:
    experiment = load_experiment(write("a.yaml", COMPLETE))
    assert experiment.audio.sample_rate_hz == 44100
    assert experiment.model.block_filters == [64, 128, 256, 512, 1024]
    assert experiment.recipe.optimizer.name == "adam"
    assert experiment.augment.mixup is None


def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    write: WriteFile, tmp_path: Path
) -> None:
    assert refusal(tmp_path / "no.yaml").endswith(
        "no.yaml: cannot be read (No such file or directory)"
    )
    assert "Is a directory" in refusal(tmp_path)
    assert "Not a directory" in refusal(write("a.yaml", COMPLETE) / "b.yaml")
    assert "cannot be read" in refusal(Path("zero\0byte.yaml"))
    assert "cannot be read" in refusal(Path("~nobody-of-this-name/a.yaml"))
    assert "cannot be read" in refusal(tmp_path / ("long" * 200))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes("name: ż".encode("iso-8859-2"))
    assert refusal(binary).endswith("cannot be read (not UTF-8 text)")
    os.symlink("loop.yaml", tmp_path / "loop.yaml")
    assert "cannot be read" in refusal(tmp_path / "loop.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n", "just words", "- a list", "3", "null"])
def test_a_file_without_sections_is_refused(write: WriteFile, text: str) -> None:
    assert "a configuration is a mapping of sections" in refusal(write("a.yaml", text))


def test_a_mistake_in_yaml_is_named_with_its_line(write: WriteFile) -> None:
    path = write("a.yaml", "name: x\nseed: 1\nseed: 2\n")
    assert refusal(path) == f"{path}: line 3: key 'seed' stands twice in one mapping"


def test_a_byte_order_mark_does_no_harm(write: WriteFile) -> None:
    assert load_experiment(write("a.yaml", "\ufeff" + COMPLETE)).name == "complete"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_pipe_can_be_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, COMPLETE.encode())
    os.close(writing)
    try:
        assert load_experiment(f"/proc/self/fd/{reading}").name == "complete"
    finally:
        os.close(reading)


# --- extends


def test_a_file_wins_over_what_it_extends_and_later_parents_over_earlier(write: WriteFile) -> None:
    write("base/grand.yaml", "seed: 1\naudio: {duration_s: 1.0, crop: center}\n")
    write("base/first.yaml", "extends: grand.yaml\naudio: {duration_s: 2.0, pad: repeat}\n")
    write("second.yaml", "audio: {duration_s: 3.0}\nrecipe: {epochs: 7}\n")
    path = write(
        "a.yaml", f"extends: [base/first.yaml, second.yaml]\n{COMPLETE}recipe: {{batch_size: 4}}\n"
    )
    experiment = load_experiment(path, ["recipe.epochs=9"])
    assert experiment.seed == 1
    assert experiment.audio.duration_s == 3.0
    assert (experiment.audio.crop, experiment.audio.pad) == ("center", "repeat")
    assert (experiment.recipe.batch_size, experiment.recipe.epochs) == (4, 9)


def test_a_list_replaces_the_inherited_list(write: WriteFile) -> None:
    write("parent.yaml", COMPLETE + "augment: {noise: {colors: [white, pink]}}\n")
    path = write("a.yaml", "extends: parent.yaml\naugment: {noise: {colors: [brown]}}\n")
    noise = load_experiment(path).augment.noise
    assert noise is not None
    assert noise.colors == ["brown"]


def test_null_takes_an_inherited_section_away(write: WriteFile) -> None:
    write("parent.yaml", COMPLETE + "augment: {mixup: {}, gain: {}}\n")
    augment = load_experiment(
        write("a.yaml", "extends: parent.yaml\naugment: {mixup: null}")
    ).augment
    assert augment.mixup is None
    assert augment.gain is not None


def test_one_parent_may_be_inherited_twice(write: WriteFile) -> None:
    write("root.yaml", COMPLETE)
    write("left.yaml", "extends: root.yaml\nseed: 2\n")
    write("right.yaml", "extends: root.yaml\n")
    assert load_experiment(write("a.yaml", "extends: [left.yaml, right.yaml]")).seed == 2


def test_a_circle_is_refused(write: WriteFile) -> None:
    write("b.yaml", "extends: a.yaml")
    assert "goes round in a circle" in refusal(write("a.yaml", "extends: b.yaml"))
    assert "goes round in a circle" in refusal(write("self.yaml", "extends: ./self.yaml"))


def test_a_missing_parent_is_named(write: WriteFile, tmp_path: Path) -> None:
    problem = refusal(write("a.yaml", "extends: [base/none.yaml]"))
    assert problem == f"{tmp_path}/base/none.yaml: cannot be read (No such file or directory)"


@pytest.mark.parametrize("value", ["3", "{a: 1}", "[a, 3]", "null", "true"])
def test_extends_takes_file_names(write: WriteFile, value: str) -> None:
    assert "'extends' takes a file name or a list of them" in refusal(
        write("a.yaml", f"extends: {value}")
    )


# --- a change of name


def test_another_name_replaces_the_section_and_the_same_name_does_not() -> None:
    base = {"data": {"name": "esc50", "root": "r", "test_fold": 3}, "name": "a"}
    assert merge(base, {"data": {"name": "synthetic"}})["data"] == {"name": "synthetic"}
    assert merge(base, {"data": {"name": "esc50", "test_fold": 4}})["data"] == {
        "name": "esc50", "root": "r", "test_fold": 4,
    }  # fmt: skip
    assert merge(base, {"name": "b"})["data"] == base["data"]  # an experiment is no kind of thing
    assert base["data"] == {"name": "esc50", "root": "r", "test_fold": 3}


def test_a_change_of_name_by_set_drops_the_old_kinds_options() -> None:
    raw = {**SHORTEST, "data": {"name": "esc50", "root": "somewhere", "test_fold": 2}}
    data = build_experiment(apply_overrides(raw, ["data.name=synthetic"])).data
    assert data.name == "synthetic"
    assert data.test_fold == 5


@pytest.mark.parametrize("first", [True, False])
def test_name_and_options_can_be_set_in_either_order(first: bool) -> None:
    overrides = ["data.name=esc50", "data.root=somewhere"]
    data = build_with(*(overrides if first else overrides[::-1])).data
    assert (data.name, data.root) == ("esc50", "somewhere")


# --- --set


def test_overrides_come_last_and_the_later_one_wins() -> None:
    assert build_with("seed=1", "seed=2").seed == 2


def test_overrides_are_yaml() -> None:
    experiment = build_with(
        "data.classes=[chirp_up, chirp_down]",
        "augment.mixup={alpha: 0.4}",
        "recipe.optimizer={name: adam, learning_rate: 3e-4}",
        "data.cache_dir=a=b",
        " audio.pad = repeat ",
    )
    assert experiment.data.classes == ["chirp_up", "chirp_down"]
    assert experiment.augment.mixup is not None
    assert experiment.augment.mixup.alpha == 0.4
    assert experiment.recipe.optimizer.learning_rate == 3e-4
    assert experiment.data.cache_dir == "a=b"
    assert experiment.audio.pad == "repeat"


def test_an_override_creates_the_sections_on_its_way() -> None:
    noise = build_with("augment.noise.snr_db=[0, 10]").augment.noise
    assert noise is not None
    assert noise.snr_db == (0.0, 10.0)


def test_all_wrong_overrides_come_at_once() -> None:
    problems = problems_with("seed", "=3", "audio..pad=end", "audio.=1", "seed=[", "seed=3")
    assert [problem.split(":")[0] for problem in problems] == [
        "--set seed", "--set =3", "--set audio..pad=end", "--set audio.=1", "--set seed=[",
    ]  # fmt: skip
    assert problems[0] == "--set seed: write it as section.key=value"


def test_a_path_through_a_value_is_refused() -> None:
    assert problems_with("seed.low=1") == ["seed: must be a whole number, not {'low': 1}"]


def test_overrides_do_not_change_the_mapping_they_are_given() -> None:
    raw = {"data": {"name": "synthetic"}}
    apply_overrides(raw, ["data.test_fold=1"])
    assert raw == {"data": {"name": "synthetic"}}


# --- distribution: auto


def test_distribution_can_be_one_word(write: WriteFile) -> None:
    section = "distribution: {precision: mixed_bfloat16, strategy: mirrored}\n"
    write("parent.yaml", COMPLETE + section)
    path = write("a.yaml", "extends: parent.yaml\ndistribution: auto\n")
    assert load_experiment(path).distribution.strategy == "auto"
    assert load_experiment(path).distribution.precision == "mixed_bfloat16"
    assert load_experiment(path, ["distribution=mirrored"]).distribution.strategy == "mirrored"


# --- resolved.yaml


def test_a_resolved_configuration_loads_as_the_same_experiment(write: WriteFile) -> None:
    experiment = build_with(
        "data={name: esc50, root: '1e-4', classes: ['on', '012'], validation: 3, cache_dir: '~'}",
        "augment={noise: {}, time_shift: {}, gain: {}, mixup: {}}",
        "augment={frequency_mask: {}, time_mask: {}}",
        "recipe.optimizer={name: sgd, learning_rate: 1e-20, clip_norm: 3.0}",
        "recipe.schedule={name: warmup_cosine}",
        "recipe.early_stopping={}",
        "model.pool_grid=[4, 3]",
        "front_end.pre_emphasis=0.97",
    )
    text = dump_experiment(experiment, {"commit": "abc", "versions": {"numpy": "2.0"}})
    path = write("resolved.yaml", text)
    assert load_experiment(path) == experiment
    assert dump_experiment(load_experiment(path)) == dump_experiment(experiment)
    # Everything is there, so that a later change of a default does not change an old run.
    raw = read_config_file(path)
    assert raw["front_end"]["n_fft"] == 2048
    assert raw["distribution"]["strategy"] == "auto"
    assert "commit: abc" in text


def test_facts_of_a_run_are_no_part_of_the_experiment(write: WriteFile) -> None:
    path = write("a.yaml", COMPLETE + "run: {anything: [at, all]}\n")
    assert load_experiment(path) == load_experiment(write("b.yaml", COMPLETE))
    with pytest.raises(ConfigError, match="run: unknown key"):
        load_experiment(path, ["run.commit=abc"])
