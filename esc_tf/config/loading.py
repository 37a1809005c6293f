"""From YAML files and ``--set`` to an ``Experiment``: inheritance, overrides, readable problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from esc_tf.config.experiment import Experiment, find_contradictions
from esc_tf.config.problems import describe_problems
from esc_tf.config.yaml_format import dump_yaml, parse_yaml
from esc_tf.errors import ConfigError

# Facts about a finished start (versions, devices, commit) that resolved.yaml carries beside the
# configuration; a run can be started from a resolved.yaml, so the loader passes over them.
RUN_FACTS_KEY = "run"

# Front ends that take the same settings, so that one goes on with the other's; each with the
# options that it has alone.
_MEL_FRONT_ENDS = {"log_mel": {"computation"}, "mel_init": {"trained", "reach"}}


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings; ``update`` wins.

    A mapping whose ``name`` differs from the inherited one's replaces it whole, since the options
    of one model or data set mean nothing to another. ``log_mel`` and ``mel_init`` are the
    exception: both take the settings of a mel spectrogram.
    """
    merged = dict(base)
    for key, value in update.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(_keep_what_fits(old, value), value)
        else:
            merged[key] = value
    return merged


def _keep_what_fits(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a section means something to the one that follows it."""
    if "name" not in old or "name" not in new or old["name"] == new["name"]:
        return old
    if not _MEL_FRONT_ENDS.keys() >= {old["name"], new["name"]}:
        return {}
    return {key: value for key, value in old.items() if key not in _MEL_FRONT_ENDS[old["name"]]}


def read_config_file(path: str | Path, _seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file and everything it ``extends``, merged, not yet validated.

    Raises:
        ConfigError: a file is missing, unreadable, not a mapping, or extends itself.
    """
    path = Path(path)
    try:
        resolved = path.expanduser().resolve()
        text = path.expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: cannot be read (not UTF-8 text)") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: cannot be read ({reason})") from None
    if resolved in _seen:
        chain = " -> ".join(str(item) for item in (*_seen, resolved))
        raise ConfigError(f"{path}: 'extends' goes round in a circle: {chain}")
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path}: a configuration is a mapping of sections, e.g. 'data: {{name: esc50}}'"
        )
    parents = raw.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(item, str) for item in parents):
        raise ConfigError(f"{path}: 'extends' takes a file name or a list of them")
    merged: dict[str, Any] = {}
    for parent in parents:
        inherited = read_config_file(resolved.parent / parent, (*_seen, resolved))
        merged = merge(merged, _expand_shorthand(inherited))
    raw.pop(RUN_FACTS_KEY, None)
    return merge(merged, _expand_shorthand(raw))


def _expand_shorthand(raw: Mapping[str, Any]) -> dict[str, Any]:
    """``distribution: auto`` stands for ``distribution: {strategy: auto}``."""
    expanded = dict(raw)
    if isinstance(expanded.get("distribution"), str):
        expanded["distribution"] = {"strategy": expanded["distribution"]}
    return expanded


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` strings; values are read as YAML.

    The strings are put together first, later ones winning, so that ``data.root=x`` and
    ``data.name=esc50`` mean the same in either order.

    Raises:
        ConfigError: an override is not of the form ``path=value``; all such are listed.
    """
    updates: dict[str, Any] = {}
    problems: list[str] = []
    for override in overrides:
        path, equals, value = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            problems.append(f"--set {override}: write it as section.key=value")
            continue
        try:
            update: Any = parse_yaml(value, f"--set {override}")
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        for key in reversed(keys):
            update = {key: update}
        updates = merge(updates, _expand_shorthand(update))
    if problems:
        raise ConfigError(problems)
    return merge(raw, updates)


def build_experiment(raw: Mapping[str, Any]) -> Experiment:
    """Validate a merged mapping.

    Raises:
        ConfigError: all problems at once, one sentence each, in the user's own paths.
    """
    try:
        # JSON mode: strict about types, yet a list may become a tuple.
        experiment = Experiment.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        raise ConfigError(describe_problems(error, raw)) from None
    contradictions = list(find_contradictions(experiment))
    if contradictions:
        raise ConfigError(contradictions)
    return experiment


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Load a configuration: defaults ← ``extends`` ← file ← ``overrides``.

    Args:
        path: a YAML file.
        overrides: strings ``a.b=value``.

    Raises:
        ConfigError: see ``read_config_file``, ``apply_overrides`` and ``build_experiment``.
    """
    return build_experiment(apply_overrides(read_config_file(path), overrides))


def dump_experiment(experiment: Experiment, run_facts: Mapping[str, Any] | None = None) -> str:
    """The resolved configuration as YAML text, with the run's facts under ``run`` if given."""
    content = experiment.model_dump(mode="json")
    if run_facts is not None:
        content[RUN_FACTS_KEY] = dict(run_facts)
    return dump_yaml(content)


def read_run_facts(path: str | Path) -> dict[str, Any]:
    """What a ``resolved.yaml`` says about its run beside the configuration."""
    raw = parse_yaml(Path(path).read_text(encoding="utf-8"), str(path))
    return dict(raw.get(RUN_FACTS_KEY) or {})


def flatten_experiment(experiment: Experiment) -> dict[str, Any]:
    """The configuration as path → value, in the paths that ``--set`` takes: ``recipe.epochs``."""
    return _flatten(experiment.model_dump(mode="json"))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
