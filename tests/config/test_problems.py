from __future__ import annotations

import pytest

from tests.config.base import build_with, problems_with


def test_all_problems_come_at_once() -> None:
    assert problems_with(
        "front_end.n_mel=64",
        "recipe.epochs=0",
        "model.head.dropout=1.0",
        "datas=3",
        "data.test_fold=one",
        "augment.noise.snr_db=[1, x]",
    ) == [
        "data.test_fold: must be a whole number, not 'one'",
        "augment.noise.snr_db.1: must be a number, not 'x'",
        "front_end.n_mel: unknown key; did you mean 'n_mels'?",
        "model.head.dropout: must be below 1.0, not 1.0",
        "recipe.epochs: must be at least 1, not 0",
        "datas: unknown key; did you mean 'data'?",
    ]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        # unknown keys, also inside sections that have several kinds
        ("recipe.optimizer={name: adam, learning_rat: 1.0}",
         "recipe.optimizer.learning_rat: unknown key; did you mean 'learning_rate'?"),
        ("recipe.optimizer={name: sgd, beta_1: 0.5}",
         "recipe.optimizer.beta_1: unknown key (known here: name, learning_rate, weight_decay, "
         "momentum, nesterov, clip_norm)"),
        ("data.cache_dri=x", "data.cache_dri: unknown key; did you mean 'cache_dir'?"),
        ("data.synthetic=x", "data.synthetic: unknown key (known here: read_patience_s, "
         "test_fold, validation, on_leak, on_bad_file, max_duration_s, cache_dir, name, classes, "
         "clips_per_class_and_fold)"),
        # names
        ("data.name=esc5", "data: unknown name 'esc5'; did you mean 'esc50'? "
         "(known: esc50, urbansound8k, folder, "
         "shards, synthetic)"),
        ("model.name=se_cn", "model: unknown name 'se_cn'; did you mean 'se_cnn'? "
         "(known: se_cnn, mobilenet_v3, mobilenet_student, cnn10, tfnet, piczak_net)"),
        ("model.head.kind=atention", "model.head.kind: must be 'mlp', 'fully_convolutional' or "
         "'attention', not 'atention'; did you mean 'attention'?"),
        ("model={name: mobilenet_v3, widht: 1.0}",
         "model.widht: unknown key; did you mean 'width'?"),
        ("model={name: mobilenet_v3, width: 0.05}", "model.width: must be at least 0.1, not 0.05"),
        ("model={name: mobilenet_v3, strides: [2, 2, 2]}", "model.strides: has too few items"),
        ("model={name: mobilenet_v3, strides: [2, 2, 2, 3]}",
         "model.strides.3: must be 1 or 2, not 3"),
        ("model={name: tfnet, input_norm: true}",
         "model.input_norm: unknown key (known here: name, block_filters, head)"),
        ("recipe.schedule={patience: 3}",
         "recipe.schedule: needs a 'name' that says which kind it is"),
        ("data.name=esc50", "data.root: is required"),
        # choices
        ("front_end.window=han",
         "front_end.window: must be 'hann' or 'hann_symmetric', not 'han'; did you mean 'hann'?"),
        ("distribution=sometimes",
         "distribution.strategy: must be 'auto', 'one_device', 'mirrored' or 'multi_worker', "
         "not 'sometimes'"),
        ("augment.noise.colors=[whit]",
         "augment.noise.colors.0: must be 'white', 'pink', 'brown', 'blue' or 'violet', "
         "not 'whit'; did you mean 'white'?"),
        # a union fails once for each member, and is still one sentence
        ("data.classes=esc11", "data.classes: must be 'all', 'esc10' or 'esc19' or a list, "
         "not 'esc11'; did you mean 'esc19'?"),
        ("data.classes={a: 1}",
         "data.classes: must be 'all', 'esc10' or 'esc19' or a list, not {'a': 1}"),
        ("data.classes=[dog, 3]", "data.classes.1: must be text, not 3"),
        ("data.classes=[dog]", "data.classes: must be 'all', 'esc10' or 'esc19' or must have "
         "at least 2 item(s), not ['dog']"),
        ("data.validation=x", "data.validation: must be a number or a whole number, not 'x'"),
        ("data.validation=0", "data.validation: must be above 0.0 or at least 1, not 0"),
        ("data.validation=2.0", "data.validation: must be below 1.0 or a whole number, not 2.0"),
        # strict types: nothing is turned into something else
        ("front_end.n_mels=4.0", "front_end.n_mels: must be a whole number, not 4.0"),
        ("front_end.n_mels='64'", "front_end.n_mels: must be a whole number, not '64'"),
        ("front_end.n_mels=true", "front_end.n_mels: must be a whole number, not true"),
        ("front_end.center=1", "front_end.center: must be true or false, not 1"),
        ("front_end.center=on", "front_end.center: must be true or false, not 'on'"),
        ("front_end.floor='1e-5'", "front_end.floor: must be a number, not '1e-5'"),
        ("front_end.floor=true", "front_end.floor: must be a number, not true"),
        ("name=3", "name: must be text, not 3"),
        ("name=", "name: must be text, not null"),
        ("recipe.epochs=1e2", "recipe.epochs: must be a whole number, not 100.0"),
        ("model.block_filters=64", "model.block_filters: must be a list, not 64"),
        ("data=abc", "data: must be a mapping of keys to values, not 'abc'"),
        ("model=[a]", "model: must be a mapping of keys to values, not ['a']"),
        ("recipe=", "recipe: must be a mapping of keys to values, not null"),
        # bounds
        ("seed=-1", "seed: must be at least 0, not -1"),
        ("augment.noise.probability=1.5",
         "augment.noise.probability: must be at most 1.0, not 1.5"),
        ("front_end.floor=.nan", "front_end.floor: must be a finite number, not nan"),
        ("front_end.floor=1e400", "front_end.floor: must be a finite number, not inf"),
        ("name=my run", "name: must match ^[A-Za-z0-9][A-Za-z0-9._-]*$, not 'my run'"),
        ("name=../up", "name: must match ^[A-Za-z0-9][A-Za-z0-9._-]*$, not '../up'"),
        ("augment.noise.snr_db=[10]", "augment.noise.snr_db: has too few items"),
        ("augment.noise.snr_db=[1, 2, 3]",
         "augment.noise.snr_db: must have at most 2 item(s), not [1, 2, 3]"),
        ("model.block_filters=[]", "model.block_filters: must have at least 1 item(s), not []"),
        # a section's own rule
        ("augment.noise.snr_db=[10, 5]",
         "augment.noise: snr_db must be [low, high] with low <= high, got [10.0, 5.0]"),
        ("augment.gain.gain_db=[3, 0]",
         "augment.gain: gain_db must be [low, high] with low <= high, got [3.0, 0.0]"),
    ],
)  # fmt: skip
def test_a_problem_is_one_sentence_in_the_users_own_path(override: str, sentence: str) -> None:
    assert problems_with(override) == [sentence]


def test_a_long_value_is_shortened() -> None:
    (problem,) = problems_with(f"seed={'x' * 5000}")
    assert problem.startswith("seed: must be a whole number, not 'xxx")
    assert len(problem) < 120


def test_a_key_named_like_a_kind_does_not_disturb_its_neighbours() -> None:
    paths = [problem.split(":")[0] for problem in problems_with("data.synthetic=1", "data.rot=2")]
    assert paths == ["data.synthetic", "data.rot"]


def test_half_a_surrogate_pair_is_no_traceback() -> None:
    (problem,) = problems_with('name="\\ud800"')
    assert "JSON" in problem


def test_a_whole_number_is_a_number() -> None:
    experiment = build_with("recipe.optimizer={name: adam, learning_rate: 1}")
    assert experiment.recipe.optimizer.learning_rate == 1.0


@pytest.mark.parametrize(("text", "value"), [("2", 2), ("0.25", 0.25), ("null", None)])
def test_validation_is_a_fold_or_a_fraction_or_absent(text: str, value: object) -> None:
    found = build_with(f"data.validation={text}").data.validation
    assert found == value
    assert type(found) is type(value)
