"""The model config file, in the words that TensorFlow Serving has for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from esc_tf.errors import RequestError
from serving.errors import ServingError
from serving.models.config import (
    ModelConfig,
    VersionPolicy,
    check_configs,
    read_model_config_file,
)
from serving.models.labels import choose_labels, find_labelled

TEXT = """
# several models
model_config_list {
  config {
    name: "one"
    base_path: "/models/one"
    model_platform: "tensorflow"
  }
  config {
    name: 'two', base_path: '/models/two'
    model_type: TENSORFLOW
    model_version_policy { latest { num_versions: 2 } }
  }
  config {
    name: "three"
    base_path: "/models/three"
    model_platform: "tensorflow"
    model_version_policy: { specific: { versions: 42 versions: 43 } }
    version_labels { key: 'stable' value: 42 }
    version_labels { key: 'canary' value: 43 }
  }
  config { name: "four" base_path: "/f" model_platform: "tensorflow"
           model_version_policy { all {} } }
}
"""


def read(tmp_path: Path, text: str) -> tuple[ModelConfig, ...]:
    path = tmp_path / "models.config"
    path.write_text(text, encoding="utf-8")
    return read_model_config_file(path)


def test_a_file_with_every_policy(tmp_path: Path) -> None:
    one, two, three, four = read(tmp_path, TEXT)
    assert one == ModelConfig("one", Path("/models/one"))
    assert two.policy == VersionPolicy("latest", num_versions=2)
    assert three.policy == VersionPolicy("specific", versions=(42, 43))
    assert three.version_labels == {"stable": 42, "canary": 43}
    assert four.policy == VersionPolicy("all")
    check_configs((one, two, three, four))


def test_reading_loads_no_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(TEXT, encoding="utf-8")
    code = (
        "import sys, pathlib\nfrom serving.models import config, manager\n"
        "models = config.read_model_config_file(pathlib.Path(sys.argv[1]))\n"
        "print(len(models), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["4", "False"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no model_config_list"),
        ("model_config_list { config { nam: 'x' } }", "nam"),
        ("model_config_list { config {", "no text proto of ModelServerConfig"),
        ("custom_model_config { }", "custom_model_config is not supported"),
        (
            "model_config_list { config { name: 'x' base_path: '/x' model_type: TENSORFLOW "
            "model_platform: 'tensorflow' } }",
            "Illegal setting both ModelServerConfig::model_type",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "models.config"))


def test_a_bucket_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="gs://bucket/m of model x is a URI"):
        read(tmp_path, "model_config_list { config { name: 'x' base_path: 'gs://bucket/m' } }")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none.config: cannot be read"):
        read_model_config_file(tmp_path / "none.config")


def test_an_empty_list_is_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, "model_config_list {}") == ()


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        (
            [ModelConfig("m", Path("/a")), ModelConfig("m", Path("/b"))],
            "Illegal to list model m multiple times in config list",
        ),
        (
            [ModelConfig("m", Path("a/b"))],
            "Expected model m to have an absolute path or URI; got base_path()=a/b",
        ),
        (
            [ModelConfig("m", Path("/a"), platform="other")],
            "Model m requests unsupported platform other",
        ),
        (
            [ModelConfig("m", Path("/a"), platform="")],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
    ],
)
def test_a_wrong_list_is_refused_in_serving_s_words(
    configs: list[ModelConfig], message: str
) -> None:
    with pytest.raises(ServingError) as caught:
        check_configs(configs)
    assert (caught.value.code, caught.value.message) == ("INVALID_ARGUMENT", message)


# --- labels


def labelled(**labels: int) -> list[ModelConfig]:
    return [ModelConfig("m", Path("/m"), version_labels=labels)]


def test_labels_name_available_versions() -> None:
    labels = choose_labels(labelled(stable=1, canary=2), {"m": (1, 2)}, {}, False)
    assert find_labelled(labels, "m", "canary") == 2
    for model, label in (("m", "other"), ("other", "stable")):
        with pytest.raises(ServingError, match=f"Unrecognized servable version label: {label}$"):
            find_labelled(labels, model, label)


def test_a_label_of_a_version_that_is_not_available_is_refused() -> None:
    with pytest.raises(ServingError) as caught:
        choose_labels(labelled(canary=3), {"m": (1, 2)}, {}, False)
    assert caught.value.code == "FAILED_PRECONDITION"
    assert caught.value.message == (
        "Request to assign label to version 3 of model m, which is not currently available for "
        "inference"
    )


def test_where_that_is_allowed_a_new_label_may_but_a_moving_one_may_not() -> None:
    allowed = choose_labels(labelled(canary=3), {"m": (1,)}, {}, True)
    assert allowed == {"m": {"canary": 3}}
    assert choose_labels(labelled(canary=3), {"m": (1,)}, allowed, True) == allowed
    with pytest.raises(ServingError, match="version 4 of model m"):
        choose_labels(labelled(canary=4), {"m": (1,)}, allowed, True)
    assert choose_labels(labelled(canary=4), {"m": (4,)}, allowed, True) == {"m": {"canary": 4}}
