"""Row format: the list ``instances`` to one batch for each input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.errors import ServingError
from serving.rest.binary import is_base64_object
from serving.rest.json_text import describe
from serving.rest.json_values import list_members
from serving.rest.tensors import (
    Array,
    append_values,
    find_shape,
    make_array,
    try_regular_tensor,
)
from serving.signatures import TensorSpec


def build_tensors(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """Converts instances.

    Args:
        instances: at least one; all objects with a member for each input, or, for a signature of
            one input, all values of it.
        specs: the inputs by alias, at least one.

    Returns:
        Arrays (batch, …) by alias.

    Raises:
        ServingError: INVALID_ARGUMENT, as `serving.rest.tensors.build_tensor` and for instances
            that differ in kind, names or shape.
    """
    if not isinstance(instances[0], dict) and len(specs) > 1:
        raise _error(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    return _try_regular(instances, specs) or _Batch(specs).build(instances)


def _try_regular(instances: list[Any], specs: Mapping[str, TensorSpec]) -> dict[str, Array] | None:
    columns: dict[str, list[Any]] = {}
    if not _is_row(instances[0]):
        if len(specs) > 1:
            return None
        columns = {alias: instances for alias in specs}
    else:
        for row in instances:
            if type(row) is not dict or row.keys() != specs.keys():
                return None
        columns = {alias: [row[alias] for row in instances] for alias in specs}
    tensors = {}
    for alias, column in columns.items():
        tensor = try_regular_tensor(column, specs[alias])
        if tensor is None:
            return None
        tensors[alias] = tensor
    return tensors


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64_object(value)


class _Batch:
    """Inputs that grow instance by instance, so that what is wrong is found where it stands.

    Args:
        specs: the inputs by alias.
    """

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self.specs = specs
        self.values: dict[str, list[Any]] = {}
        self.sizes: dict[str, int] = {}
        self.shapes: dict[str, list[int]] = {}

    def build(self, instances: list[Any]) -> dict[str, Array]:
        """Adds every instance and returns the batches of the inputs that were met."""
        add = self._add_row if _is_row(instances[0]) else self._add_value
        for index, instance in enumerate(instances):
            add(index, instance)
        tensors = {}
        for alias, values in self.values.items():
            # An input that stands twice in a row has added its values twice; the first count.
            count = len(instances) * self.sizes[alias]
            shape = [len(instances), *self.shapes[alias]]
            tensors[alias] = make_array(values[:count], shape, self.specs[alias])
        return tensors

    def _add_row(self, index: int, row: Any) -> None:
        if not _is_row(row):
            raise _error(f"Expecting object but got list at item {index} of input list")
        for alias, value in list_members(row):
            try:
                self._add(alias, value)
            except ServingError as error:
                raise _error(
                    f"Failed to process element: {index} key: {alias} of 'instances' list. "
                    f"Error: {error.code}: {error.message}"
                ) from error
        if row.keys() != self.specs.keys():
            raise _error(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{describe(row)} keys must be equal to: {','.join(sorted(self.specs))}"
            )

    def _add_value(self, index: int, value: Any) -> None:
        if _is_row(value):
            raise _error(f"Expecting value/list but got object at item {index} of input list")
        try:
            self._add(min(self.specs), value)
        except ServingError as error:
            raise _error(
                f"Failed to process element: {index} of 'instances' list. "
                f"Error: {error.code}: {error.message}"
            ) from error

    def _add(self, alias: str, value: Any) -> None:
        if alias not in self.specs:
            raise _error(f"JSON object: does not have named input: {alias}")
        shape = find_shape(value)
        values = self.values.setdefault(alias, [])
        size = append_values(value, shape, self.specs[alias].dtype, values)
        if alias not in self.sizes:
            self.sizes[alias] = size
            self.shapes[alias] = shape
        elif self.sizes[alias] != size:
            raise _error(f"Expecting tensor size: {self.sizes[alias]} but got: {size}")
        elif self.shapes[alias] != shape:
            raise _error(f"Expecting shape {_show(self.shapes[alias])} but got: {_show(shape)}")


def _show(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
