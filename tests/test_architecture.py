"""Holds the order of the rooms, by the imports that are really there."""

from __future__ import annotations

import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests import imports

ROOT = Path(__file__).resolve().parents[1]
MODULES = imports.find_modules(ROOT)
MAX_LINES = 400
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}


def read_all_imports() -> dict[str, set[str]]:
    return {
        module: imports.read_imports(
            path.read_text(encoding="utf-8"), module, path.name == "__init__.py", MODULES
        )
        for module, path in MODULES.items()
    }


def python_files() -> list[Path]:
    folders = (*imports.PACKAGES, "tests", "benchmarks")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


# --- the house


def test_every_import_goes_to_the_left() -> None:
    assert list(imports.find_violations(read_all_imports())) == []


def test_no_circle_of_imports() -> None:
    graph = {
        module: {target for target in targets if target in MODULES and target != module}
        for module, targets in read_all_imports().items()
    }
    assert tuple(graphlib.TopologicalSorter(graph).static_order())


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.name for path in (ROOT / "esc_tf").glob("*/__init__.py")}
    assert folders - set(imports.ROOMS) == {imports.BESIDE, *imports.COMMAND_FOLDERS}
    assert {"audio", "data", "frontends", "models", "tasks", "training", "evaluation"} <= folders


def run_and_list_modules(*modules: str) -> set[str]:
    """Top-level modules that a new process holds after importing ``modules``."""
    code = f"import sys, {', '.join(modules)}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "room", ["errors", "registry", "files", "frames", "shipped", "config", "audio"]
)
def test_what_lies_underneath_loads_no_tensorflow(room: str) -> None:
    modules = [module for module in MODULES if imports.find_room(module) == room]
    assert modules
    loaded = run_and_list_modules(*modules)
    assert "esc_tf" in loaded
    assert loaded & {"tensorflow", "keras", "torch", "jax"} == set()


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "evaluate",
        "predict",
        "describe",
        "data.__main__",
        "interpret.__main__",
        "report",
        "ship",
    ],
)
def test_a_command_says_what_is_wrong_before_it_loads_tensorflow(command: str) -> None:
    assert run_and_list_modules(f"esc_tf.{command}") & {"tensorflow", "keras"} == set()


def test_the_data_package_offers_its_names_late_and_all_of_them() -> None:
    assert "tensorflow" not in run_and_list_modules("esc_tf.data")
    from esc_tf.data import api

    offered: dict[str, object] = {}
    exec("from esc_tf.data import *", offered)
    assert set(api.__all__) == set(offered) - {"__builtins__"}
    with pytest.raises(ImportError, match="nothing"):
        exec("from esc_tf.data import nothing", {})


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert len(lengths) > 40
    too_long = {str(path): length for path, length in lengths.items() if length >= MAX_LINES}
    assert too_long == {}


def test_names_say_what_is_inside() -> None:
    stems = {path.stem for path in python_files()}
    assert stems & NAMES_THAT_SAY_NOTHING == set()
    library = set(sys.stdlib_module_names) - {"__init__", "__main__", "__future__"}
    assert {module for module in MODULES if module.split(".")[-1] in library} == set()


# --- the check itself


def violations_of(source: str, module: str) -> list[str]:
    found = imports.read_imports(source, module, is_package=False, known=MODULES)
    return list(imports.find_violations({module: found}))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("esc_tf.data.new", "import esc_tf.models.factory"),
        ("esc_tf.data.new", "from esc_tf.augment import waveform"),
        ("esc_tf.data.new", "from esc_tf import training"),
        ("esc_tf.data.new", "from ..models.factory import MODELS"),
        ("esc_tf.data.new", "from .. import models"),
        ("esc_tf.data.new", "def f():\n    from esc_tf.tasks import losses"),
        ("esc_tf.data.new", "if TYPE_CHECKING:\n    import esc_tf.models"),
        ("esc_tf.models.new", "from esc_tf.training.experiment import train_experiment"),
        ("esc_tf.models.new", "import importlib\nimportlib.import_module('esc_tf.training')"),
        ("esc_tf.models.new", "__import__('esc_tf.training')"),
        ("esc_tf.evaluation.new", "import esc_tf.training.loop"),
        ("esc_tf.training.new", "from esc_tf.train import main"),
        ("esc_tf.training.new", "import esc_tf.command"),
        ("esc_tf.data.new", "import esc_tf.command"),
        ("esc_tf.data.new", "from esc_tf.data.__main__ import main"),
        ("esc_tf.data.main", "from esc_tf.command import run_command"),
        ("esc_tf.training.new", "import export"),
        ("esc_tf.training.new", "from esc_tf import interpretation"),
        ("esc_tf.interpretation.new", "import export"),
        ("export.new", "import serving"),
        ("export.new", "import esc_tf.interpretation"),
        ("serving.new", "import esc_tf.interpretation"),
        ("esc_tf.config.new", "import esc_tf.audio.clip"),
        ("esc_tf.errors", "import esc_tf.registry"),
        ("esc_tf.config.new", "import tensorflow as tf"),
        ("esc_tf.audio.new", "def f():\n    import tensorflow.signal"),
        ("esc_tf.audio.new", "from tensorflow import signal"),
        ("esc_tf.models.new", "import tensorflow as tf"),
        ("esc_tf.frontends.new", "import tensorflow as tf"),
        ("esc_tf.audio.new", "from keras import ops"),
        ("esc_tf", "import esc_tf.config"),
    ],
)
def test_an_import_to_the_right_is_seen(module: str, source: str) -> None:
    (violation,) = violations_of(source, module)
    assert violation.startswith(module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("esc_tf.data.new", "from esc_tf.audio.clip import Clip"),
        ("esc_tf.data.new", "from .records import Record\nfrom . import folds"),
        ("esc_tf.data.new", "import tensorflow as tf\nimport numpy"),
        ("esc_tf.models.new", "import keras\nfrom esc_tf.frames import count_frames"),
        ("esc_tf.training.new", "from esc_tf.evaluation.metrics import compute_metrics"),
        ("esc_tf.interpretation.new", "from esc_tf.tasks.classifier import Classifier"),
        ("esc_tf.new_command", "from esc_tf import interpretation, training\nimport export"),
        ("esc_tf.data.__main__", "import esc_tf.command\nfrom esc_tf.data import sharding"),
        ("export.new", "from esc_tf.tasks import classifier"),
        ("serving.new", "import export"),
    ],
)
def test_an_import_to_the_left_passes(module: str, source: str) -> None:
    assert violations_of(source, module) == []


def test_imports_are_resolved_to_modules() -> None:
    source = "from esc_tf.data import folds, Split\nfrom . import records\nfrom .. import frames"
    known = ["esc_tf.data", "esc_tf.data.folds", "esc_tf.data.records", "esc_tf.frames"]
    found = imports.read_imports(source, "esc_tf.data.new", is_package=False, known=known)
    assert found == set(known)
    inside = imports.read_imports("from . import records", "esc_tf.data", True, known)
    assert inside == {"esc_tf.data.records"}
