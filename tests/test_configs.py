"""Every shipped configuration is valid, and every experiment takes an optimiser step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
import yaml

from esc_tf import train
from esc_tf.augment import build_batch_augment, build_feature_draw, build_waveform_augment
from esc_tf.config import Experiment, build_experiment, load_experiment
from esc_tf.config.loading import merge, read_config_file
from esc_tf.data import (
    DATA_SETS,
    CachedClip,
    build_pipeline,
    cut_split,
    load_clips,
    split_clips,
)
from esc_tf.frontends.factory import FRONT_ENDS
from esc_tf.models.factory import MODELS
from esc_tf.tasks.classifier import build_classifier
from esc_tf.training.distillation import prepare_distillation
from esc_tf.training.embedding_match import build_embedding_match
from esc_tf.training.fine_tuning import find_source, prepare_fine_tuning
from esc_tf.training.optimizers import build_optimizer
from esc_tf.training.phases import check_phases, plan_phases
from esc_tf.training.supervised import build_train_step
from esc_tf.training.teacher_file import write_teacher_file
from tests.config.base import SHORTEST
from tests.data.folder import ESC50, make_row, write_table
from tests.data.mock_sets import mock_data
from tests.training.invented_teachers import invent_answers

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXPERIMENTS = [CONFIGS / "smoke.yaml", *sorted((CONFIGS / "experiment").glob("*.yaml"))]
FRAGMENTS = [
    path
    for folder in ("front_end", "model", "recipe")
    for path in sorted((CONFIGS / folder).glob("*.yaml"))
]
DEPLOYMENTS = sorted((CONFIGS / "kubernetes").glob("*.yaml"))
LABEL_MAPS = sorted((CONFIGS / "label_map").glob("*.yaml"))  # see test_label_map.py


def label(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def test_every_file_is_tested() -> None:
    tested = [*EXPERIMENTS, *FRAGMENTS, *DEPLOYMENTS, *LABEL_MAPS]
    assert sorted(tested) == sorted(CONFIGS.rglob("*.y*ml"))
    assert {path.parent.name for path in FRAGMENTS} == {"front_end", "model", "recipe"}
    assert {path.stem for path in EXPERIMENTS} >= {
        "smoke",
        "se_cnn_esc50",
        "se_cnn_esc10",
        "se_cnn_esc19",
        "se_cnn_plain_esc50",
        "se_cnn_grid_esc50",
        "mn04_esc10",
        "mn10_esc50",
        "cnn10_esc50",
        "tfnet_esc50",
        "student_esc10",
        "student_esc10_plain",
        "student_esc10_inherited",
        "mobilenet_student_esc10",
        "piczak_net_esc10",
        "icebreaker_heurinet_esc10",
        "icebreaker_mstnet_esc10",
        "icebreaker_mel_init_esc10",
    }


@pytest.mark.parametrize("path", FRAGMENTS, ids=label)
def test_a_fragment_is_valid_within_an_experiment(path: Path) -> None:
    fragment = read_config_file(path)
    assert path.parent.name in fragment
    build_experiment(merge(SHORTEST, fragment))
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=label)
def test_an_experiment_is_valid_and_says_how_to_run_it(path: Path) -> None:
    assert load_experiment(path).name == path.stem
    command = f"# python -m esc_tf.train --config configs/{label(path)}"
    first_lines = path.read_text(encoding="utf-8").splitlines()[:2]
    assert any(f"{line} ".startswith(f"{command} ") for line in first_lines)


def test_everything_registered_has_a_configuration() -> None:
    named = {
        folder: {
            read_config_file(path)[folder]["name"]
            for path in FRAGMENTS
            if path.parent.name == folder
        }
        for folder in ("front_end", "model")
    }
    assert named == {"front_end": set(FRONT_ENDS), "model": set(MODELS)}
    assert {load_experiment(path).data.name for path in EXPERIMENTS} == set(DATA_SETS)
    assert {name for name in MODELS if not (CONFIGS / "model" / f"{name}.yaml").is_file()} == set()


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=label)
def test_a_deployment_starts_a_command_that_exists(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# kubectl apply -f configs/kubernetes/")
    workers = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["tfReplicaSpecs"]["Worker"]
    assert workers["restartPolicy"] == "OnFailure"
    (container,) = workers["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "esc_tf.train"]
    arguments = train.build_parser().parse_args(container["args"])
    assert arguments.resume_if_started and arguments.run_dir
    experiment = load_experiment(CONFIGS.parent / arguments.config, arguments.overrides)
    assert experiment.distribution.strategy == "multi_worker"
    assert experiment.recipe.batch_size % workers["replicas"] == 0


# --- what was published


def test_se_cnn_is_trained_as_published() -> None:
    experiment = load_experiment(CONFIGS / "experiment" / "se_cnn_esc50.yaml")
    recipe, augment = experiment.recipe, experiment.augment
    assert (recipe.epochs, recipe.batch_size) == (300, 32)
    assert recipe.loss == "categorical_crossentropy"
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("adam", 1e-3)
    assert recipe.schedule.name == "reduce_on_plateau"
    assert recipe.early_stopping is not None
    assert recipe.early_stopping.monitor == "validation_accuracy"
    assert augment.noise is not None
    assert (augment.noise.probability, augment.noise.snr_db) == (0.3, (15.0, 15.0))
    assert set(augment.noise.colors) == {"white", "pink", "brown"}
    assert augment.time_shift is not None
    assert (augment.time_shift.probability, augment.time_shift.max_fraction) == (0.3, 0.2)
    assert augment.mixup is not None
    assert augment.mixup.on == "features"
    assert (experiment.data.test_fold, experiment.data.validation) == (5, 0.2)
    front_end, audio = experiment.front_end, experiment.audio
    assert (audio.sample_rate_hz, audio.duration_s) == (44100, 5.0)
    assert (front_end.n_fft, front_end.hop_length, front_end.n_mels) == (2048, 512, 128)
    assert (front_end.fmin_hz, front_end.fmax_hz) == (20.0, 22050.0)
    assert (front_end.normalization, front_end.num_frames) == ("standardize", 431)
    assert front_end.frame_padding == "minimum"


@pytest.mark.parametrize(
    ("name", "classes", "test_fold"),
    [("se_cnn_esc50", "all", 5), ("se_cnn_esc10", "esc10", 4), ("se_cnn_esc19", "esc19", 5)],
)
def test_selections_differ_in_their_classes_alone(name: str, classes: str, test_fold: int) -> None:
    whole = load_experiment(CONFIGS / "experiment" / "se_cnn_esc50.yaml")
    experiment = load_experiment(CONFIGS / "experiment" / f"{name}.yaml")
    assert experiment.data == whole.data.model_copy(
        update={"classes": classes, "test_fold": test_fold}
    )
    rest = {"name", "data"}
    assert experiment.model_dump(exclude=rest) == whole.model_dump(exclude=rest)


@pytest.mark.parametrize(
    ("name", "filters", "grid", "hidden"),
    [
        ("se_cnn_plain_esc50", [32, 64, 128, 256], None, [256, 128]),
        ("se_cnn_grid_esc50", [32, 64, 128], (4, 3), [512, 256]),
    ],
)
def test_variants_differ_in_their_network_alone(
    name: str, filters: list[int], grid: tuple[int, int] | None, hidden: list[int]
) -> None:
    whole = load_experiment(CONFIGS / "experiment" / "se_cnn_esc50.yaml")
    experiment = load_experiment(CONFIGS / "experiment" / f"{name}.yaml")
    assert experiment.model.block_filters == filters
    assert experiment.model.squeeze_excitation_blocks == []
    assert experiment.model.pool_grid == grid
    assert experiment.model.head.hidden_units == hidden
    rest = {"name", "model"}
    assert experiment.model_dump(exclude=rest) == whole.model_dump(exclude=rest)


def test_mobilenet_v3_is_fine_tuned_as_efficientat_is() -> None:
    experiment = load_experiment(CONFIGS / "experiment" / "mn10_esc50.yaml")
    recipe, augment = experiment.recipe, experiment.augment
    assert (recipe.epochs, recipe.batch_size, recipe.select) == (80, 128, "last")
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("adam", 6e-5)
    assert recipe.optimizer.weight_decay is None
    assert recipe.schedule.name == "warmup_linear"
    assert (recipe.schedule.warmup, recipe.schedule.warmup_epochs) == ("exponential", 10.0)
    assert (recipe.schedule.decay_epochs, recipe.schedule.final_fraction) == (65.0, 0.01)
    assert recipe.fine_tuning is not None
    assert (recipe.fine_tuning.frozen, recipe.fine_tuning.learning_rates) == ([], {})
    assert augment.roll is not None and augment.roll.max_shift_s is not None
    assert augment.roll.max_shift_s * experiment.audio.sample_rate_hz == 4000
    assert augment.gain is not None and augment.gain.gain_db == (-12.0, 12.0)
    assert augment.wave_mix is not None
    assert (augment.wave_mix.probability, augment.wave_mix.alpha) == (0.5, 2.0)
    assert augment.mixup is not None
    assert (augment.mixup.alpha, augment.mixup.at_least_half) == (0.3, True)
    assert (experiment.audio.sample_rate_hz, experiment.audio.pad) == (32000, "silence")


def test_tfnet_is_trained_as_published() -> None:
    experiment = load_experiment(CONFIGS / "experiment" / "tfnet_esc50.yaml")
    recipe = experiment.recipe
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.name, optimizer.amsgrad, optimizer.learning_rate) == ("adam", True, 1e-4)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (0.9, 0.999, 1e-8)
    assert (schedule.name, schedule.decay, schedule.every_steps) == ("stepwise", 0.9, 100)
    # Four folds of 400 clips.
    assert recipe.epochs * (1600 // recipe.batch_size) == 4500
    assert experiment.front_end.num_frames == 250


def test_the_students_differ_in_what_their_teacher_gives_alone() -> None:
    taught, plain, inherited = (
        load_experiment(CONFIGS / "experiment" / f"{name}.yaml")
        for name in ("student_esc10", "student_esc10_plain", "student_esc10_inherited")
    )
    distillation, tuning = taught.recipe.distillation, taught.recipe.fine_tuning
    assert distillation is not None and tuning is not None
    assert (distillation.label_weight, distillation.temperature) == (0.1, 1.0)
    assert plain.recipe.distillation is plain.recipe.fine_tuning is None
    assert inherited.recipe.distillation is None and inherited.recipe.fine_tuning == tuning
    for other in (plain, inherited):
        update = {"distillation": distillation, "fine_tuning": tuning}
        recipe = other.recipe.model_copy(update=update)
        assert other.model_copy(update={"name": taught.name, "recipe": recipe}) == taught


# --- one step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in ESC-50's layout with all its classes: one short clip a class and fold."""
    root = tmp_path_factory.mktemp("esc50")
    rng = np.random.default_rng(0)
    rows = []
    for target, category in enumerate(ESC50):
        for fold in range(1, 6):
            filename = f"{fold}-{target}-A-{target}.wav"
            rows.append(make_row(filename, fold, category, target, f"{fold}{target:02d}"))
    write_table(root, rows)
    for row in rows:
        noise = rng.uniform(-0.5, 0.5, 4410).astype(np.float32)
        soundfile.write(root / "audio" / row["filename"], noise, 44100)
    return root


def make_narrow(experiment: Experiment) -> list[str]:
    """Overrides that make its network the smallest of its kind."""
    if experiment.model.name == "mobilenet_v3":
        narrow = ["model.width=0.1"]
    elif experiment.model.name == "piczak_net":
        narrow = ["model.filters=4", "model.dense_units=8"]
    else:
        narrow = [f"model.block_filters={[4] * len(experiment.model.block_filters)}"]
    return [*narrow, f"model.head.hidden_units={[8] * len(experiment.model.head.hidden_units)}"]


def write_source(experiment: Experiment, path: Path) -> list[str]:
    """Write what the experiment starts from, of random weights and other classes, if anything."""
    if experiment.recipe.fine_tuning is None:
        return []
    keras.utils.set_random_seed(1)
    build_classifier(experiment, ["one", "two", "three"]).save(path)
    return [f"recipe.fine_tuning.source={path}"]


def write_answers(
    experiment: Experiment, clips: Sequence[CachedClip], names: Sequence[str], path: Path
) -> Experiment:
    """The experiment with a file of random answers where it learns from a teacher's."""
    distillation = experiment.recipe.distillation
    if distillation is None:
        return experiment
    assert distillation.mode == "offline"
    answers = invent_answers(experiment, clips, names, num_views=2)
    if distillation.embedding_weight:
        shape = (*answers.logits.shape[:2], 3)
        embeddings = np.random.default_rng(1).normal(size=shape).astype(np.float16)
        answers = dataclasses.replace(answers, embeddings=embeddings)
    write_teacher_file(path, answers)
    recipe = {"distillation": distillation.model_copy(update={"targets": str(path)})}
    return experiment.model_copy(update={"recipe": experiment.recipe.model_copy(update=recipe)})


@pytest.mark.parametrize("path", EXPERIMENTS, ids=label)
def test_an_experiment_takes_a_step(path: Path, folder: Path, tmp_path: Path) -> None:
    whole = load_experiment(path)
    overrides = [
        *mock_data(whole, folder, tmp_path),
        *make_narrow(whole),
        "recipe.batch_size=4",
    ]
    overrides += write_source(load_experiment(path, overrides), tmp_path / "source.keras")
    experiment = load_experiment(path, overrides)
    data, augment = experiment.data, experiment.augment
    data_set, clips, _ = load_clips(data, experiment.audio, experiment.seed)
    split = split_clips(clips, data.test_fold, data.validation, experiment.seed, data.on_leak)
    split = cut_split(split, experiment.audio)
    names = data_set.label_names
    experiment = write_answers(experiment, split.train, names, tmp_path / "answers.npz")
    distillation = prepare_distillation(experiment, split, names)
    pipeline = build_pipeline(
        split.train,
        audio=experiment.audio,
        num_classes=len(data_set.label_names),
        batch_size=experiment.recipe.batch_size,
        training=True,
        augment_waveform=build_waveform_augment(augment, experiment.audio),
        draw=build_feature_draw(augment),
        mix_batch=build_batch_augment(augment, experiment.audio, experiment.recipe),
        teaching=distillation.teaching,
    )
    keras.utils.set_random_seed(experiment.seed)
    model = build_classifier(experiment, data_set.label_names)
    tuned = experiment.recipe.fine_tuning
    tuning = prepare_fine_tuning(model, tuned, None if tuned is None else find_source(tuned.source))
    match = build_embedding_match(model, distillation.embedding_units)
    left_behind = [] if match is None else match.variables
    precision, factors = experiment.distribution.precision, tuning.rate_factors
    if factors is not None:
        factors = [*factors, *(1.0 for _ in left_behind)]
    optimizer = build_optimizer(experiment.recipe, pipeline.num_batches, precision, factors)
    optimizer.build([*model.trainable_variables, *left_behind])
    before = [np.array(variable) for variable in model.trainable_variables]
    train_step = build_train_step(
        model, optimizer, tf.distribute.get_strategy(), experiment, distillation.ask_teacher, match
    )

    sums = train_step(next(iter(pipeline.epoch(0))))

    assert np.isfinite(float(sums["loss"]))
    assert float(sums["count"]) == experiment.recipe.batch_size
    assert int(optimizer.iterations) == 1
    after = [np.array(variable) for variable in model.trainable_variables]
    assert all(np.isfinite(value).all() for value in after)
    moved = [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    assert moved[0] and moved[-1]  # from the first convolution to the last bias


@pytest.mark.parametrize("name", ["heurinet", "mstnet", "mel_init"])
def test_the_phases_of_an_icebreaker_fit_their_networks(
    name: str, folder: Path, tmp_path: Path
) -> None:
    path = CONFIGS / "experiment" / f"icebreaker_{name}_esc10.yaml"
    whole = load_experiment(path)
    overrides = [*mock_data(whole, folder, tmp_path), *make_narrow(whole)]
    experiment = load_experiment(path, overrides)
    plans = plan_phases(experiment, tmp_path / "run")
    assert len(check_phases(experiment, plans)[1].label_names) == 10
    assert not (tmp_path / "run").exists()
