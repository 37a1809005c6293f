"""Flags of the server: Serving's and its own, and the small files that some of them name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from esc_tf.errors import RequestError
from serving.__main__ import main
from serving.config_files import read_metrics_path, read_tls_config
from serving.flags import WITHOUT_MEANING, build_parser, count_threads


def test_spellings_of_a_flag() -> None:
    parse = build_parser().parse_args
    for arguments in (
        ["--rest_api_port=8600", "--model_name=m"],
        ["--rest-api-port", "8600", "--model-name", "m"],
    ):
        parsed = parse(arguments)
        assert (parsed.rest_api_port, parsed.model_name) == (8600, "m")
    assert parse(["--model_name", "a-b_c"]).model_name == "a-b_c"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], False),
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching", "True"], True),
        (["--enable-batching=1"], True),
        (["--enable_batching=false"], False),
        (["--enable_batching", "--model_name=m"], True),
    ],
)
def test_booleans(arguments: list[str], expected: bool) -> None:
    assert build_parser().parse_args(arguments).enable_batching is expected


def test_defaults_are_servings() -> None:
    parsed = build_parser().parse_args([])
    assert parsed.rest_api_timeout_in_ms == 30_000
    assert parsed.max_num_load_retries == 5
    assert parsed.load_retry_interval_micros == 60_000_000
    assert parsed.file_system_poll_wait_seconds == 1
    assert parsed.model_config_file_poll_wait_seconds == 0
    assert parsed.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rest_api_prt=1"], "unknown flag --rest_api_prt; did you mean 'rest_api_port'?"),
        (["--zzz"], "unknown flag --zzz"),
        (["models/"], "unexpected argument 'models/'; models are named by --model_base_path"),
        (["--port=99999"], "--port: 99999 is not from 0 to 65535"),
        (["--port=x"], "--port: 'x' is not a whole number"),
        (["--enable_batching=perhaps"], "--enable_batching: 'perhaps' is neither true nor false"),
        (["--client_timeout=0"], "--client_timeout: 0 is not at least 0.001"),
        (["--port=0", "--rest_api_port=0"], "nobody could connect"),
        (["--port=8501"], "gRPC and HTTP need different ports"),
        (["--batching_parameters_file=x"], "has an effect with --enable_batching alone"),
        (["--model_name=m"], "say where its versions lie, with --model_base_path"),
        (["--model_base_path=gs://bucket/m"], "gs://bucket/m is no folder here; mount it"),
        (["--use_alts_credentials"], "ALTS is not possible"),
        (["--auth_token_file=/none"], "--auth_token_file: /none cannot be read"),
        (["--monitoring_config_file=/none"], "/none: cannot be read as MonitoringConfig"),
        (["--ssl_config_file=/none"], "/none: cannot be read as SSLConfig"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_flags_without_meaning_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        port = taken.getsockname()[1]
        arguments = [f"--{name}=1" for name in WITHOUT_MEANING]
        assert main([*arguments, f"--rest_api_port={port}", "--model_base_path=/none"]) == 2
    for name in WITHOUT_MEANING:
        assert f"--{name} has no effect here: " in caplog.text


def test_a_port_that_is_taken_is_said_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([f"--rest_api_port={port}", "--model_base_path=/none"]) == 2
    assert f"HTTP cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


def test_an_open_address_without_a_token_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        flags = ["--host=0.0.0.0", f"--rest_api_port={taken.getsockname()[1]}"]
        assert main([*flags, f"--auth_token_file={token}"]) == 2
        assert "whoever reaches" not in caplog.text
        assert main(flags) == 2
    assert "whoever reaches 0.0.0.0 may use this server; see --auth_token_file" in caplog.text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("esc_tf ")
    assert second.startswith("TensorFlow ")


def test_threads() -> None:
    assert count_threads(3, batching=True) == 3
    assert count_threads(None, batching=True) >= 64
    assert count_threads(None, batching=False) >= 4


# --- files that flags name


def test_monitoring(tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text('prometheus_config { enable: true, path: "/here" }  # a comment')
    assert read_metrics_path(file) == "/here"
    file.write_text("prometheus_config: {\n  enable: true\n}")
    assert read_metrics_path(file) == "/monitoring/prometheus/metrics"
    file.write_text('prometheus_config { path: "/here" }')
    assert read_metrics_path(file) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus { enable: true }", 'no field named "prometheus"'),
        ("prometheus_config { enable: perhaps }", "no text proto of MonitoringConfig"),
        ('prometheus_config { enable: true, path: "here" }', "must begin with '/'"),
    ],
)
def test_wrong_monitoring(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    with pytest.raises(RequestError, match=message):
        read_metrics_path(file)


def test_tls(tmp_path: Path) -> None:
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "KEY\\n" server_cert: "CERT" client_verify: true')
    config = read_tls_config(file)
    assert (config.server_key, config.server_cert, config.custom_ca) == ("KEY\n", "CERT", "")
    assert config.client_verify
    file.write_text('server_key: "KEY"')
    with pytest.raises(RequestError, match="server_key and server_cert are both needed"):
        read_tls_config(file)


@pytest.mark.parametrize("content", ["", "\n", "two words", "é", "a\tb"])
def test_a_token_must_be_one(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(content, "utf-8")
    assert main([f"--auth_token_file={file}"]) == 2
    assert "must be a token of printable ASCII" in capsys.readouterr().err
