"""The cluster that ``TF_CONFIG`` describes, read and checked before TensorFlow sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esc_tf.errors import RequestError

# The kinds of task that train together, in the order in which TensorFlow counts them.
_TRAINING_TASKS = ("chief", "worker")


@dataclass(frozen=True)
class Cluster:
    """The workers of a run and this process among them.

    Attributes:
        addresses: ``host:port`` of every worker, the chief first.
        index: this process's place in ``addresses``.
    """

    addresses: tuple[str, ...]
    index: int


def read_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Read ``TF_CONFIG``: ``{"cluster": {"worker": ["host:port", …]}, "task": {…}}``.

    Args:
        environment: the process's environment.

    Returns:
        The cluster, or None where there is no ``TF_CONFIG`` or it names no cluster.

    Raises:
        RequestError: it is not what TensorFlow expects; every problem is named.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"TF_CONFIG: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise RequestError('TF_CONFIG: must be an object with "cluster" and "task"')
    jobs = content.get("cluster") or {}
    if not jobs:
        return None
    problems = list(_find_problems(jobs, content.get("task")))
    if problems:
        raise RequestError(problems)
    task = content["task"]
    addresses = [address for kind in _TRAINING_TASKS for address in jobs.get(kind, [])]
    before = len(jobs.get("chief", [])) if task["type"] == "worker" else 0
    return Cluster(tuple(addresses), before + task["index"])


def _find_problems(jobs: Any, task: Any) -> list[str]:
    if not isinstance(jobs, dict) or not all(
        isinstance(members, list) and all(isinstance(item, str) and ":" in item for item in members)
        for members in jobs.values()
    ):
        return ['TF_CONFIG: "cluster" must map kinds of task to lists of "host:port"']
    if not isinstance(task, dict) or not isinstance(task.get("index"), int):
        return ['TF_CONFIG: "task" must hold "type" and "index" of this process']
    problems = []
    if len(jobs.get("chief", [])) > 1:
        problems.append('TF_CONFIG: "cluster" may have one "chief"')
    kind, index = task.get("type"), task["index"]
    if kind not in _TRAINING_TASKS:
        problems.append(f"TF_CONFIG: task type {kind!r} cannot train; use chief or worker")
    elif not 0 <= index < len(jobs.get(kind, [])):
        problems.append(
            f"TF_CONFIG: task index {index} does not exist; "
            f'"cluster" lists {len(jobs.get(kind, []))} of type {kind}'
        )
    addresses = [item for kind in _TRAINING_TASKS for item in jobs.get(kind, [])]
    for address in sorted({item for item in addresses if addresses.count(item) > 1}):
        problems.append(f"TF_CONFIG: {address} is listed more than once")
    return problems
