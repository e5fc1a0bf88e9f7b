"""What others can do to a running service: another user of the machine, a client of the management port, an archive."""

import json
import shutil
import socket
import subprocess
import zipfile
from pathlib import Path

import psutil
import pytest
import requests

from ops.canary import gateway_key_of, token_of
from tests.e2e.stack import Stack

pytestmark = pytest.mark.e2e
as_root = pytest.mark.needs("root", "curl")  # root alone can act as another user

HANDLER = """
from pathlib import Path

def handle(data, context):
    Path({ran!r}).touch()
    return [b"ran"]
"""


def nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as another user of this machine, one with no rights of its own."""
    other = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    return subprocess.run([*other, *command], capture_output=True, text=True, check=False, cwd="/", timeout=60)


@pytest.fixture
def entered(stack: Stack) -> Stack:
    """The stack below a folder that everybody may enter, as a checkout is, so that its own modes are what counts."""
    stack.folder.chmod(0o755)
    return stack


def foreign_model(folder: Path, ran: Path) -> Path:
    """A folder that TorchServe can register as it is; `ran` appears when its handler is called."""
    (folder / "MAR-INF").mkdir(parents=True)
    model = {"modelName": "foreign", "handler": "foreign.py", "modelVersion": "1.0"}
    manifest = {"createdOn": "01/01/2026", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "foreign.py").write_text(HANDLER.format(ran=str(ran)))
    return folder


@as_root
def test_another_user_reads_and_writes_nothing_of_var(entered: Stack) -> None:
    """Another user finds nothing to read in var/: no log, setting, secret, socket or measurement."""
    settings = entered.settings
    assert nobody("ls", str(entered.folder)).returncode == 0
    assert nobody("find", str(settings.var), "-mindepth", "1").stdout == ""
    assert nobody("cat", str(settings.state / "canary-token")).returncode != 0
    assert nobody("find", str(settings.var), str(settings.store), "-writable", "!", "-type", "l").stdout == ""
    supervisor = nobody("curl", "-s", "--unix-socket", str(settings.run / "supervisor.sock"), "http://localhost/RPC2")
    assert supervisor.returncode == 7


@as_root
def test_secrets_are_in_no_command_line_and_no_log(entered: Stack) -> None:
    """The canary's secret is not what `ps` shows, not in others' reach in /proc, and in no log but the private one."""
    token = token_of(entered.settings)
    processes = entered.processes()
    assert len(processes) >= 4
    assert not any(token in " ".join(one.cmdline()) for one in processes)
    jvm = f"/proc/{entered.jvm_pid()}/environ"
    assert token in Path(jvm).read_text()
    assert nobody("cat", jvm).stdout == ""
    logs = {path.name: path.read_text(errors="replace") for path in entered.settings.logs.glob("*.log")}
    assert {name for name, text in logs.items() if token in text} <= {"access.log"}
    key = gateway_key_of(entered.settings)
    assert not [name for name, text in logs.items() if key in text]


@pytest.mark.needs("haproxy")
def test_everything_listens_on_loopback(stack: Stack) -> None:
    """No port of the service can be met from another host."""
    pids = {one.pid for one in stack.processes()}
    listening = {
        one.laddr
        for one in psutil.net_connections("tcp")
        if one.pid in pids and one.status == psutil.CONN_LISTEN and one.laddr
    }
    wanted = {port for name, port in stack.settings.ports.items()}
    assert {address.port for address in listening} == wanted
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


@as_root
@pytest.mark.needs("landlock")
def test_another_user_cannot_have_a_folder_served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder with a handler, which TorchServe would link and run as the service's user, is not registered."""
    shared = Path("/dev/shm") / tmp_path_factory.getbasetemp().name
    ran = shared / "ran"
    try:
        foreign_model(shared / "foreign", ran)
        for path in (shared, *shared.rglob("*")):
            path.chmod(0o777)
        url = stack.settings.management_url(f"/models?url={shared / 'foreign'}&initial_workers=1&synchronous=true")
        answer = nobody("curl", "-s", "-X", "POST", url).stdout
        assert json.loads(answer)["code"] >= 400, answer
        requests.post(stack.url("foreign"), data=b"x", timeout=30)
        assert requests.get(stack.settings.management_url("/models/foreign"), timeout=10).status_code == 404
        assert not ran.exists()
    finally:
        shutil.rmtree(shared)
    stack.embed()


@pytest.mark.parametrize("path", ["models", "workflows"])
def test_no_url_is_fetched(path: str, stack: Stack) -> None:
    """Neither a model nor a workflow is registered from a URL: no connection is opened, no file is read (SSRF)."""
    with socket.create_server(("127.0.0.1", 0)) as bait:
        bait.settimeout(0.5)
        host = f"127.0.0.1:{bait.getsockname()[1]}"
        for url in (f"http://{host}/x.mar", f"https://{host}/x.mar", f"ftp://{host}/x.mar", "file:///etc/passwd"):
            answer = requests.post(stack.settings.management_url(f"/{path}"), params={"url": url}, timeout=10)
            assert answer.status_code >= 400, url
        with pytest.raises(TimeoutError):
            bait.accept()


@pytest.mark.parametrize("url", ["../minilm-1.0.mar", "/etc/passwd", "served/../../minilm-1.0.mar", "/"])
def test_no_path_leads_out_of_the_store(url: str, stack: Stack) -> None:
    """A path in place of an archive's name is refused."""
    answer = requests.post(stack.settings.management_url("/models"), params={"url": url}, timeout=10)
    assert answer.status_code >= 400


@pytest.mark.needs("curl")
@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "minilm%00", "minilm/../../models"])
def test_no_model_name_leads_anywhere(name: str, stack: Stack) -> None:
    """A model's name in a request is looked up and never a path; the service goes on."""
    url = stack.settings.inference_url(f"/predictions/{name}")
    done = subprocess.run(
        ["curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout in {"400", "404"}
    stack.embed()


def test_a_member_that_leads_out_is_not_unpacked(stack: Stack) -> None:
    """Should such an archive get into the store after all, TorchServe 0.12 itself writes nothing outside TEMP; without
    that member it takes the same archive."""
    slipped = stack.folder / "slipped"
    archive = stack.settings.served / "slip.mar"
    source = foreign_model(stack.folder / "foreign", stack.folder / "ran")
    up = "/".join([".."] * len(stack.settings.temp.parts))
    url = stack.settings.management_url("/models")

    def register(members: dict[str, str]) -> int:
        with zipfile.ZipFile(archive, "w") as file:
            for path in source.rglob("*"):
                file.write(path, path.relative_to(source))
            for name, text in members.items():
                file.writestr(name, text)
        return requests.post(url, params={"url": archive.name, "initial_workers": "0"}, timeout=30).status_code

    try:
        assert register({f"{up}{slipped}": "x"}) >= 400
        assert not slipped.exists()
        assert register({"slipped": "x"}) == 200
        assert requests.delete(f"{url}/foreign", timeout=30).status_code == 200
    finally:
        archive.unlink()
        shutil.rmtree(source)
