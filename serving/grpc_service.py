"""TensorFlow Serving's gRPC services, with the models that the REST API uses too.

``PredictionService`` has Predict, Classify, Regress and GetModelMetadata, ``ModelService`` has
GetModelStatus. What would make the server read another folder at a client's word,
HandleReloadConfigRequest, is left out on purpose.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.access_log import AccessLog, AccessRecord
from serving.api import Services
from serving.errors import ServingError
from serving.rest.example_signatures import CLASSES, REGRESSION_OUTPUTS, SCORES
from serving.rest.requests import ExamplesRequest, parse_classify, parse_regress
from serving.rest.responses import format_classify, format_regress
from serving.signatures import DEFAULT_SIGNATURE_NAME
from serving.tensor_protos import read_tensor, write_tensor

Reply = TypeVar("Reply")
_LOG = logging.getLogger(__name__)
_SIGNATURE_DEF = "signature_def"
_MAX_MESSAGE = 1024  # Serving cuts longer ones, since they travel in HTTP headers


class _Caller:
    """Answers calls: errors as statuses, metrics, and a line in the access log."""

    def __init__(self, services: Services, log: AccessLog) -> None:
        self.services = services
        self._log = log

    def answer(
        self, api: str, request: Any, context: grpc.ServicerContext, work: Callable[[], Reply]
    ) -> Reply:
        """Do the work of one call.

        Args:
            api: name of the method.
            request: its message, which has a ``model_spec``.
            context: of the call.
            work: makes the reply.
        """
        started = time.monotonic()
        record = AccessRecord(
            protocol="gRPC",
            client=context.peer(),
            path=api,
            status="OK",
            request_bytes=request.ByteSize(),
            model=request.model_spec.name,
        )
        try:
            reply = work()
            record.response_bytes = reply.ByteSize()  # type: ignore[attr-defined]
        except Exception as error:
            raised = _as_serving_error(error, api)
            record.status, record.error = raised.code, raised.message
        record.duration_ms = 1000 * (time.monotonic() - started)
        self._log.write(record)
        if api in ("Predict", "Classify", "Regress"):
            metrics = self.services.metrics
            metrics.count_request(record.model, str(record.status))
            if record.status == "OK":
                metrics.record_latency(record.model, api, "GRPC", record.duration_ms / 1000)
        if record.status != "OK":
            message = record.error
            if len(message) > _MAX_MESSAGE:
                message = message[:_MAX_MESSAGE] + "...TRUNCATED"
            context.abort(grpc.StatusCode[str(record.status)], message)
        return reply


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, Classify, Regress and GetModelMetadata.

    Args:
        services: what all requests share.
        log: the access log.
        as_content: write numbers as raw bytes; see ``write_tensor``.
    """

    def __init__(self, services: Services, log: AccessLog, as_content: bool = False) -> None:
        self._caller = _Caller(services, log)
        self._services = services
        self._as_content = as_content

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Run a signature on tensors."""

        def work() -> Any:
            spec = _read_spec(request)
            limit = self._services.settings.max_request_bytes
            with self._services.manager.lease(*_which(spec)) as servable:
                inputs = {
                    alias: read_tensor(alias, tensor, limit)
                    for alias, tensor in request.inputs.items()
                }
                outputs = self._services.run(
                    servable,
                    "predict",
                    spec.signature_name,
                    inputs,
                    _find_deadline(context),
                    list(request.output_filter),
                )
                reply = predict_pb2.PredictResponse()
                _write_spec(reply.model_spec, spec, servable.version)
                for alias, array in outputs.items():
                    write_tensor(array, reply.outputs[alias], self._as_content)
                return reply

        return self._caller.answer("Predict", request, context, work)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Run a classification signature on Examples."""

        def work() -> Any:
            spec, deadline = _read_spec(request), _find_deadline(context)
            with self._services.manager.lease(*_which(spec)) as servable:
                call = parse_classify(_read_examples(request, spec), servable.signatures)
                outputs = self._services.run(
                    servable, "classify", call.signature_name, call.inputs, deadline
                )
                specs = servable.signatures[call.signature_name].outputs
                format_classify(outputs, specs, len(call.examples))  # refuses what REST refuses
                reply = classification_pb2.ClassificationResponse()
                _write_spec(reply.model_spec, spec, servable.version)
            shape = next(iter(outputs.values())).shape
            classes = outputs.get(CLASSES, np.full(shape, b"", object))
            scores = outputs.get(SCORES, np.zeros(shape, np.float32))
            for labels, row in zip(classes.tolist(), scores.tolist(), strict=True):
                result = reply.result.classifications.add()
                for label, score in zip(labels, row, strict=True):
                    result.classes.add(label=label, score=score)
            return reply

        return self._caller.answer("Classify", request, context, work)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Run a regression signature on Examples."""

        def work() -> Any:
            spec, deadline = _read_spec(request), _find_deadline(context)
            with self._services.manager.lease(*_which(spec)) as servable:
                call = parse_regress(_read_examples(request, spec), servable.signatures)
                outputs = self._services.run(
                    servable, "regress", call.signature_name, call.inputs, deadline
                )
                specs = servable.signatures[call.signature_name].outputs
                format_regress(outputs, specs, len(call.examples))  # refuses what REST refuses
                reply = regression_pb2.RegressionResponse()
                _write_spec(reply.model_spec, spec, servable.version)
            for value in outputs[REGRESSION_OUTPUTS].ravel().tolist():
                reply.result.regressions.add(value=value)
            return reply

        return self._caller.answer("Regress", request, context, work)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Tell the signatures of a model."""

        def work() -> Any:
            spec = _read_spec(request)
            if not request.metadata_field:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    "GetModelMetadataRequest must specify at least one metadata_field",
                )
            for field in request.metadata_field:
                if field != _SIGNATURE_DEF:
                    raise ServingError(
                        "INVALID_ARGUMENT", f"Metadata field {field} is not supported"
                    )
            reply = get_model_metadata_pb2.GetModelMetadataResponse()
            with self._services.manager.lease(*_which(spec)) as servable:
                reply.model_spec.name = servable.model_name
                reply.model_spec.version.value = servable.version
                signatures = get_model_metadata_pb2.SignatureDefMap()
                for name, signature_def in servable.signature_defs.items():
                    signatures.signature_def[name].CopyFrom(signature_def)
                reply.metadata[_SIGNATURE_DEF].Pack(signatures)
            return reply

        return self._caller.answer("GetModelMetadata", request, context, work)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus.

    Args:
        services: what all requests share.
        log: the access log.
    """

    def __init__(self, services: Services, log: AccessLog) -> None:
        self._caller = _Caller(services, log)
        self._services = services

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Tell the states of a model's versions."""

        def work() -> Any:
            if not request.HasField("model_spec"):
                raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
            reply = get_model_status_pb2.GetModelStatusResponse()
            for found in self._services.manager.status(*_which(request.model_spec)):
                status = reply.model_version_status.add(version=found.version)
                status.state = status.State.Value(found.state)
                status.status.error_code = grpc.StatusCode[found.error_code].value[0]
                status.status.error_message = found.error_message
            return reply

        return self._caller.answer("GetModelStatus", request, context, work)


def _read_spec(request: Any) -> Any:
    if not request.HasField("model_spec"):
        raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
    if not request.model_spec.name:
        raise ServingError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    return request.model_spec


def _which(spec: Any) -> tuple[str, int | None, str | None]:
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return spec.name, version, spec.version_label if choice == "version_label" else None


def _write_spec(target: Any, asked: Any, version: int) -> None:
    target.name = asked.name
    target.version.value = version
    target.signature_name = asked.signature_name or DEFAULT_SIGNATURE_NAME


def _read_examples(request: Any, spec: Any) -> ExamplesRequest:
    kind = request.input.WhichOneof("kind")
    examples, context = (), b""
    if kind == "example_list":
        examples = request.input.example_list.examples
    elif kind == "example_list_with_context":
        examples = request.input.example_list_with_context.examples
        context = request.input.example_list_with_context.context.SerializeToString()
    if not examples:
        raise ServingError("INVALID_ARGUMENT", "Input is empty.")
    serialized = np.empty(len(examples), object)
    # Messages of one type merge when they are concatenated.
    serialized[:] = [context + example.SerializeToString() for example in examples]
    return ExamplesRequest(spec.signature_name or DEFAULT_SIGNATURE_NAME, serialized)


def _find_deadline(context: grpc.ServicerContext) -> float | None:
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def _as_serving_error(error: Exception, api: str) -> ServingError:
    if isinstance(error, ServingError):
        return error
    _LOG.error("%s failed", api, exc_info=error)
    return ServingError("INTERNAL", f"{type(error).__name__}: {error}")
