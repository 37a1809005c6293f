"""The deployment files, as far as they can be checked without Docker and without a cluster."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from serving.batching.parameters import read_batching_parameters
from serving.config_files import read_metrics_path
from serving.flags import WITHOUT_MEANING, build_parser
from serving.models.config import read_model_config_file
from tests.serving.tf_serving.flags import FLAGS

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "serving" / "tf_serving"
KUBERNETES = FOLDER / "kubernetes"
MANIFESTS = ("deployment.yaml", "service.yaml", "autoscaler.yaml", "disruption_budget.yaml")


def read_yaml(path: Path) -> Any:
    (document,) = yaml.safe_load_all(path.read_text("utf-8"))
    return document


def read_dockerfile() -> list[tuple[str, str]]:
    """Instructions with what follows them, lines joined, comments left out."""
    text = (FOLDER / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(a, b) for a, _, b in (line.partition(" ") for line in joined.splitlines() if line)]


def instruction(name: str) -> str:
    (value,) = [value for found, value in read_dockerfile() if found == name]
    return value


def server_arguments() -> dict[str, list[str]]:
    """Arguments of the server, by the place where they are written."""
    container = read_container()
    service = read_yaml(KUBERNETES / "inference_service.yaml")
    return {
        "Dockerfile": json.loads(instruction("CMD")),
        "deployment.yaml": container["args"],
        "inference_service.yaml": service["spec"]["predictor"]["model"]["args"],
    }


def read_container() -> dict[str, Any]:
    pod = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return container


def as_flags(arguments: list[str]) -> dict[str, str]:
    matches = [re.fullmatch(r"--([a-z_]+)=(\S+)", argument) for argument in arguments]
    assert all(matches), arguments
    return {match[1]: match[2] for match in matches if match}


# --- flags


@pytest.mark.parametrize("place", ["Dockerfile", "deployment.yaml", "inference_service.yaml"])
def test_every_flag_is_one_of_the_server(place: str) -> None:
    flags = as_flags(server_arguments()[place])
    assert flags
    assert set(flags) <= FLAGS
    # … and the embedded server takes the same arguments.
    build_parser().parse_args(server_arguments()[place])
    assert set(flags).isdisjoint(WITHOUT_MEANING)


def test_the_container_and_the_image_start_alike() -> None:
    image, container = (as_flags(server_arguments()[n]) for n in ("Dockerfile", "deployment.yaml"))
    assert {key: container[key] for key in image} == image
    assert json.loads(instruction("ENTRYPOINT")) == ["tensorflow_model_server"]
    assert "command" not in read_container()


# --- configuration files


def test_models_config_is_read_by_the_server_own_parser() -> None:
    (model,) = read_model_config_file(FOLDER / "models.config")
    assert (model.name, model.base_path) == ("default", Path("/models/default"))
    assert model.policy.kind == "latest"


def test_batching_config_is_whole() -> None:
    parameters = read_batching_parameters(FOLDER / "batching.config")
    assert parameters.max_batch_size == 32
    assert parameters.batch_timeout_micros == 2_000
    assert parameters.max_enqueued_batches == 16
    # The last one must be the largest batch, or the server does not start.
    assert parameters.allowed_batch_sizes == (1, 2, 4, 8, 16, 32)
    cores = float(read_container()["resources"]["limits"]["cpu"])
    assert (
        parameters.num_batch_threads
        == cores
        == read_yaml(FOLDER / "compose.yaml")["services"]["serving"]["cpus"]
    )


def test_prometheus_reads_where_the_server_tells() -> None:
    path = read_metrics_path(FOLDER / "monitoring.config")
    assert path == "/monitoring/prometheus/metrics"
    (job,) = read_yaml(FOLDER / "prometheus.yml")["scrape_configs"]
    assert job["metrics_path"] == path
    port = as_flags(server_arguments()["Dockerfile"])["rest_api_port"]
    assert job["static_configs"] == [{"targets": [f"serving:{port}"]}]
    template = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == path
    assert annotations["prometheus.io/port"] == port
    assert annotations["prometheus.io/scrape"] == "true"


# --- Docker


def test_what_the_image_copies_is_there_and_where_the_flags_look() -> None:
    copied = {}
    for name, value in read_dockerfile():
        if name == "COPY":
            *sources, target = value.split()
            for source in sources:
                copied[f"{target.rstrip('/')}/{source}" if source != "models" else target] = source
    assert copied.pop("/models") == "models"  # made by the README's first commands
    assert {FOLDER / source for source in copied.values()} == set(FOLDER.glob("*.config"))
    flags = as_flags(server_arguments()["Dockerfile"])
    assert {value for key, value in flags.items() if key.endswith("_file")} == set(copied)
    ignored = (FOLDER / ".dockerignore").read_text().splitlines()
    assert {"!models", "!*.config"} <= set(ignored)


def test_the_health_check_asks_for_the_model_that_is_served() -> None:
    (model,) = read_model_config_file(FOLDER / "models.config")
    flags = as_flags(server_arguments()["Dockerfile"])
    options, _, command = instruction("HEALTHCHECK").partition("CMD ")
    assert "--start-period" in options
    shell, option, script = json.loads(command)
    assert (shell, option) == ("bash", "-c")
    assert f"/dev/tcp/127.0.0.1/{flags['rest_api_port']}" in script
    assert f"GET /v1/models/{model.name} HTTP/1.0\\r\\n\\r\\n" in script


def test_compose_mounts_what_is_there_and_publishes_on_loopback() -> None:
    services = read_yaml(FOLDER / "compose.yaml")["services"]
    serving = services["serving"]
    targets = {}
    for service in services.values():
        for volume in service["volumes"]:
            source, target, mode = volume.split(":")
            assert mode == "ro"
            targets[target] = source
    assert targets.pop("/models") == "./models"
    assert all((FOLDER / source).is_file() for source in targets.values())
    flags = as_flags(server_arguments()["Dockerfile"])
    assert {value for key, value in flags.items() if key.endswith("_file")} < set(targets)
    ports = {flags["port"], flags["rest_api_port"]}
    assert set(serving["ports"]) == {f"127.0.0.1:{port}:{port}" for port in ports}
    assert set(instruction("EXPOSE").split()) == ports
    assert (FOLDER / serving["build"] / "Dockerfile").is_file()
    assert serving["read_only"] and serving["cap_drop"] == ["ALL"]


# --- Kubernetes


def test_kustomization_names_what_is_there() -> None:
    kustomization = read_yaml(FOLDER / "kustomization.yaml")
    assert kustomization["resources"] == [f"kubernetes/{name}" for name in MANIFESTS]
    (generator,) = kustomization["configMapGenerator"]
    pod = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["configMap"]["name"] == generator["name"]
    (mount,) = read_container()["volumeMounts"]
    assert mount["name"] == volume["name"]
    flags = as_flags(server_arguments()["deployment.yaml"])
    wanted = {PurePosixPath(value) for key, value in flags.items() if key.endswith("_file")}
    assert wanted == {PurePosixPath(mount["mountPath"]) / name for name in generator["files"]}
    assert all((FOLDER / name).is_file() for name in generator["files"])
    (image,) = kustomization["images"]
    compose = read_yaml(FOLDER / "compose.yaml")["services"]["serving"]["image"]
    assert f"{image['name']}:{image['newTag']}" == compose
    assert read_container()["image"] == image["name"]


def test_all_objects_mean_the_same_pods() -> None:
    deployment, service, autoscaler, budget = (read_yaml(KUBERNETES / name) for name in MANIFESTS)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    target = autoscaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert target["apiVersion"] == deployment["apiVersion"]
    assert "replicas" not in deployment["spec"]  # the autoscaler's
    assert budget["spec"]["minAvailable"] < autoscaler["spec"]["minReplicas"]


def test_ports_and_probes_agree() -> None:
    container = read_container()
    flags = as_flags(container["args"])
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"grpc": flags["port"], "rest": flags["rest_api_port"]}
    for port in read_yaml(KUBERNETES / "service.yaml")["spec"]["ports"]:
        assert ports[port["targetPort"]] == str(port["port"])
    (model,) = read_model_config_file(FOLDER / "models.config")
    for probe in ("startupProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked == {"path": f"/v1/models/{model.name}/metadata", "port": "rest"}
    assert container["livenessProbe"]["tcpSocket"]["port"] == "grpc"


def test_a_pod_waits_for_its_requests_before_it_ends() -> None:
    pod = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    container = read_container()
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    longest_s = int(as_flags(container["args"])["rest_api_timeout_in_ms"]) / 1000
    assert longest_s < int(seconds) < pod["terminationGracePeriodSeconds"]


def test_the_container_may_do_nothing_but_compute() -> None:
    pod = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    user = str(pod["securityContext"]["runAsUser"])
    assert pod["securityContext"]["runAsNonRoot"] and user != "0"
    assert instruction("USER").split(":")[0] == user
    context = read_container()["securityContext"]
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_pods_follow_the_requests_that_wait() -> None:
    autoscaler = read_yaml(KUBERNETES / "autoscaler.yaml")
    (metric,) = autoscaler["spec"]["metrics"]
    (rule,) = read_yaml(KUBERNETES / "prometheus_adapter_values.yaml")["rules"]["custom"]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series = re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", rule["seriesQuery"])
    # Serving's metric /tensorflow/serving/request_latency (servables/tensorflow/util.cc), named as
    # util/prometheus_exporter.cc names it; its unit is the microsecond.
    assert series is not None and series[0] == ":tensorflow:serving:request_latency_sum"
    assert f"rate({series[0]}{{<<.LabelMatchers>>}}[1m])" in rule["metricsQuery"]
    assert rule["metricsQuery"].endswith("/ 1e6")
    batch = read_batching_parameters(FOLDER / "batching.config").max_batch_size
    assert int(metric["pods"]["target"]["averageValue"]) * 2 == batch
    predictor = read_yaml(KUBERNETES / "inference_service.yaml")["spec"]["predictor"]
    assert predictor["scaleMetric"] == "concurrency"
    assert predictor["scaleTarget"] <= predictor["containerConcurrency"]


def test_all_run_the_same_version_of_the_server() -> None:
    (version,) = [value.partition("=")[2] for name, value in read_dockerfile() if name == "ARG"]
    assert instruction("FROM") == "tensorflow/serving:${TF_SERVING_VERSION}"
    model = read_yaml(KUBERNETES / "inference_service.yaml")["spec"]["predictor"]["model"]
    assert model["runtimeVersion"] == version
    assert f"tensorflow/serving:{version}" in (FOLDER / "README.md").read_text("utf-8")


# --- README


def readme_commands() -> list[list[str]]:
    text = (FOLDER / "README.md").read_text("utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    return [shlex.split(line) for line in blocks.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_commands_name_what_is_there() -> None:
    commands = readme_commands()
    assert {command[0] for command in commands} >= {"docker", "kubectl", "helm", "python", "curl"}
    words = {word for command in commands for word in command}
    paths = {word for word in words if word.startswith("serving/tf_serving")}
    made = {"serving/tf_serving/models", "serving/tf_serving/models/default"}
    assert made < paths
    assert all((ROOT / path).exists() for path in paths - made)


def test_the_commands_of_this_package_take_their_arguments() -> None:
    from export.__main__ import build_parser as build_export_parser
    from serving.client import build_parser as build_client_parser

    parsers = {"export": build_export_parser, "serving": build_parser}
    parsers["serving.client"] = build_client_parser
    seen = set()
    for command in readme_commands():
        if command[:2] == ["python", "-m"]:
            parsers[command[2]]().parse_args(command[3:])
            seen.add(command[2])
    assert seen == set(parsers)
