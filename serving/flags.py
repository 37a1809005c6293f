"""The server's flags: those of ``tensorflow_model_server``, and a few of its own.

Names may be written with underscores or dashes, values after ``=`` or a space, and a boolean alone
means true. A flag of Serving's that has nothing to act upon here is taken and named on stderr.
Source: TensorFlow Serving, ``model_servers/main.cc`` and ``server.h``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from esc_tf.registry import suggest_name
from serving.settings import MIB

DEFAULT_REST_PORT = 8501
DEFAULT_GRPC_PORT = 8500

#: Flags of ``tensorflow_model_server`` that change nothing here, each with the reason.
WITHOUT_MEANING = {
    "num_load_threads": "models load one after another, beside the requests",
    "num_unload_threads": "models are unloaded in the thread that watches them",
    "flush_filesystem_caches": "the operating system's caches are left alone",
    "tensorflow_session_config_file": "models run as TensorFlow 2 functions, without a session",
    "platform_config_file": "SavedModels are the one platform",
    "per_process_gpu_memory_fraction": "set TF_FORCE_GPU_ALLOW_GROWTH=true to share a GPU",
    "remove_unused_fields_from_bundle_metagraph": "graphs are kept as they are",
    "prefer_tflite_model": "TFLite files are run by `python -m serving.tflite_classifier`",
    "num_tflite_pools": "TFLite files are run by `python -m serving.tflite_classifier`",
    "num_tflite_interpreters_per_pool": "TFLite files are run by "
    "`python -m serving.tflite_classifier`",
    "enable_signature_method_name_check": "names of methods are not checked, Serving's default",
    "xla_cpu_compilation_enabled": "set TF_XLA_FLAGS=--tf_xla_auto_jit=2 to compile",
    "xla_gpu_compilation_enabled": "set TF_XLA_FLAGS=--tf_xla_auto_jit=2 to compile",
    "enable_profiler": "there is no profiler service",
    "thread_pool_factory_config_file": "TensorFlow's own thread pools are used",
    "mixed_precision": "models run in the precision they were exported in",
    "skip_initialize_tpu": "there is no TPU",
    "enable_grpc_healthcheck_service": "ask GetModelStatus, or /healthz over HTTP",
}


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")


def _number(
    kind: type[int] | type[float], low: float, high: float = float("inf")
) -> Callable[[str], Any]:
    def convert(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"'{text}' is not {noun}") from None
        if not low <= value <= high:
            limits = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text} is not {limits}")
        return value

    return convert


_PORT = _number(int, 0, 65535)
_ANY_INTEGER = _number(int, -(2**63), 2**63 - 1)


class FlagParser(argparse.ArgumentParser):
    """A parser that reads flags as Serving's command line has them."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; unknown flags end the process with code 2 and a near name."""
        given = sys.argv[1:] if args is None else list(args)
        parsed, unknown = self.parse_known_args(list(map(_with_underscores, given)), namespace)
        if unknown:
            self._refuse(unknown)
        return parsed

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        first = unknown[0]
        if not first.startswith("-"):
            self.error(f"unexpected argument '{first}'; models are named by --model_base_path")
        name = first.split("=")[0].lstrip("-")
        known = [action.dest for action in self._actions]
        self.error(f"unknown flag --{name}{suggest_name(name, known)}")


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def build_parser() -> FlagParser:
    """The flags of ``python -m serving``."""
    parser = FlagParser(
        prog="python -m serving",
        allow_abbrev=False,
        usage="%(prog)s [--model_name NAME --model_base_path DIR | --model_config_file FILE] "
        "[--flag[=value] …]",
        description="Serve SavedModels as TensorFlow Serving does: REST, gRPC and a web page. "
        "Without a model, the one that comes with the package is served.",
        epilog="Exit codes: 0 stopped by SIGTERM or Ctrl-C after all accepted requests were "
        "answered, 1 failed or gave up waiting for them, 2 wrong flags. Further flags of "
        f"tensorflow_model_server are taken and change nothing: {', '.join(WITHOUT_MEANING)}.",
    )
    _add_models(parser)
    _add_http(parser)
    _add_grpc(parser)
    _add_limits(parser)
    for name in WITHOUT_MEANING:
        parser.add_argument(f"--{name}", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="store_true", help="print versions and end")
    return parser


def _add_boolean(group: argparse._ArgumentGroup, name: str, default: bool, text: str) -> None:
    group.add_argument(
        f"--{name}",
        type=_boolean,
        nargs="?",
        const=True,
        default=default,
        metavar="BOOL",
        help=f"{text} ({str(default).lower()})",
    )


def _add_models(parser: FlagParser) -> None:
    group = parser.add_argument_group("models")
    add = group.add_argument
    add("--model_name", metavar="NAME", help="name in requests (default)")
    add("--model_base_path", metavar="DIR", help="holds one folder a version: DIR/1, DIR/2 …")
    add("--model_config_file", metavar="FILE", help="ModelServerConfig: several models, as text")
    add(
        "--model_config_file_poll_wait_seconds",
        type=_number(int, 0),
        default=0,
        metavar="S",
        help="read that file again every S seconds; 0: never (0)",
    )
    add(
        "--file_system_poll_wait_seconds",
        type=_number(int, 0),
        default=1,
        metavar="S",
        help="look for new versions every S seconds; 0: only at the start (1)",
    )
    _add_boolean(
        group,
        "allow_version_labels_for_unavailable_models",
        False,
        "take labels of versions that are not loaded",
    )
    add("--max_num_load_retries", type=_number(int, 0), default=5, metavar="N", help="(5)")
    add(
        "--load_retry_interval_micros",
        type=_ANY_INTEGER,
        default=60_000_000,
        metavar="US",
        help="between two tries to load a version (60000000)",
    )
    add("--saved_model_tags", default="serve", metavar="TAGS", help="of the graph to load (serve)")
    _add_boolean(group, "enable_model_warmup", True, "play the warm-up requests that lie beside it")
    add(
        "--num_request_iterations_for_warmup",
        type=_number(int, 0),
        default=0,
        metavar="N",
        help="how often each of them is played; 0: once (0)",
    )
    _add_boolean(group, "enable_batching", False, "run requests that arrive together as one")
    add("--batching_parameters_file", metavar="FILE", help="BatchingParameters, as text")
    _add_boolean(
        group,
        "enable_per_model_batching_parameters",
        False,
        "read them from batching_params.pbtxt in each version's folder",
    )
    for name, what in (
        ("tensorflow_session_parallelism", "an operation, and operations side by side"),
        ("tensorflow_intra_op_parallelism", "an operation"),
        ("tensorflow_inter_op_parallelism", "operations side by side"),
    ):
        add(
            f"--{name}",
            type=_number(int, 0),
            default=0,
            metavar="N",
            help=f"threads of {what}; 0: as TensorFlow chooses (0)",
        )


def _add_http(parser: FlagParser) -> None:
    group = parser.add_argument_group("HTTP")
    add = group.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on, for HTTP and gRPC; 0.0.0.0: all of IPv4 (127.0.0.1)",
    )
    add(
        "--rest_api_port",
        type=_PORT,
        default=DEFAULT_REST_PORT,
        metavar="P",
        help=f"0: no HTTP ({DEFAULT_REST_PORT})",
    )
    add(
        "--rest_api_num_threads",
        type=_number(int, 1),
        metavar="N",
        help="requests worked on at once (4 times the cores, 64 at least with batching)",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=_ANY_INTEGER,
        default=30_000,
        metavar="MS",
        help="from a request's last byte to its answer; 0: no limit (30000)",
    )
    _add_boolean(group, "rest_api_enable_cors_support", False, "let any web page use the REST API")
    add(
        "--cors_origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let this web page use everything here, e.g. https://example.org; may be repeated",
    )
    add("--monitoring_config_file", metavar="FILE", help="MonitoringConfig, as text: metrics")
    add(
        "--auth_token_file",
        metavar="FILE",
        help="its first line must come with requests, as `Authorization: Bearer …`",
    )
    add(
        "--log_format",
        choices=("json", "text", "none"),
        default="json",
        help="of the access log on stdout (json)",
    )


def _add_grpc(parser: FlagParser) -> None:
    group = parser.add_argument_group("gRPC")
    add = group.add_argument
    add("--port", type=_PORT, metavar="P", help=f"0: no gRPC ({DEFAULT_GRPC_PORT})")
    add("--grpc_socket_path", metavar="PATH", help="a Unix socket for gRPC")
    add("--grpc_max_threads", type=_number(int, 1), metavar="N", help="(as for HTTP)")
    add("--grpc_channel_arguments", metavar="K=V,…", help="arguments of the gRPC server")
    add("--ssl_config_file", metavar="FILE", help="SSLConfig, as text: gRPC over TLS")
    _add_boolean(group, "use_alts_credentials", False, "not possible here")
    _add_boolean(
        group,
        "enable_serialization_as_tensor_content",
        False,
        "reply with tensor_content in place of float_val and its like",
    )


def _add_limits(parser: FlagParser) -> None:
    group = parser.add_argument_group("limits, not in tensorflow_model_server")
    add = group.add_argument
    add(
        "--max_request_bytes",
        type=_number(int, 1),
        default=64 * MIB,
        metavar="N",
        help=f"a longer request is refused ({64 * MIB})",
    )
    add(
        "--max_pending_bytes",
        type=_number(int, 1),
        default=256 * MIB,
        metavar="N",
        help=f"of all requests under way together; beyond it 503 ({256 * MIB})",
    )
    add(
        "--max_queue",
        type=_number(int, 0),
        default=256,
        metavar="N",
        help="requests that may wait for a thread; beyond it 503 (256)",
    )
    add(
        "--client_timeout",
        type=_number(float, 0.001),
        default=20.0,
        metavar="S",
        help="for a client to send its head, and its body beyond 1 s for 10 kB; then 408 (20)",
    )
    add(
        "--drain_timeout",
        type=_number(float, 0),
        default=60.0,
        metavar="S",
        help="after SIGTERM: for accepted requests to be answered (60)",
    )


def count_threads(num_threads: int | None, batching: bool) -> int:
    """Threads that work on requests: as asked, else Serving's 4 a core, 64 at least with batching.

    A request waits in its thread until its batch has run, so a batch cannot be larger than their
    number.
    """
    if num_threads is not None:
        return num_threads
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(4 * available, 64 if batching else 1)
