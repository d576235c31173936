"""Nothing that arcinvert starts contacts anything: the main jobs in a process that may reach this machine alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import arcinvert
from arcinvert.app.targets import EXAMPLE
from arcinvert.telemetry import NO_TELEMETRY

# Loaded by Python at its start: refuses and records every look-up and connection but those to this machine.
GUARD = """
import os, socket
HERE = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", b"localhost", b"127.0.0.1"}
look_up, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

def refuse(what):
    with open(os.environ["GUARD_LOG"], "a") as log:
        log.write(f"{what!r}\\n")
    raise OSError(f"the test allows no connection to {what!r}")

def guarded(function):
    def call(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in HERE:
            refuse(address)
        return function(self, address)
    return call

def guarded_look_up(host, *arguments, **options):
    return look_up(host, *arguments, **options) if host in HERE else refuse(host)

socket.getaddrinfo = guarded_look_up
socket.socket.connect, socket.socket.connect_ex = guarded(connect), guarded(connect_ex)
"""
JOBS = """
import json, sys, time, urllib.request
from importlib.util import find_spec
from pathlib import Path
from arcinvert.cli import run
photo, checkpoint, crops, store, out, *signer = sys.argv[1:]
started = time.monotonic()
network, out = ["--checkpoint", checkpoint], Path(out)
signed = ["--c2pa-certificate", signer[0], "--c2pa-key", signer[1]] if signer else []
codes = {
    "doctor": run(["doctor"]),
    "embed": run(["-q", "embed", photo, "-o", str(out / "e.npy"), *network]),
    "synth": run(["-q", "synth", "-e", str(out / "e.npy"), "-o", str(out / "s"), "--steps", "1", *network, *signed]),
    "audit": run(["-q", "audit", store, "--steps", "1", "-o", str(out / "a"), "--calibration-faces", crops, *network]),
}
if find_spec("gradio") is not None:
    from arcinvert.app.page import launch
    from arcinvert.app.state import AppState
    state = AppState(Path(checkpoint))
    page, address = launch(state)
    codes["app"] = urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(address).status - 200
    page.close(verbose=False)
    state.close()
time.sleep(max(0, 20 - (time.monotonic() - started)))  # onnxruntime waits for some seconds before it asks
print(json.dumps(codes))
"""


def can_trace() -> bool:
    """Whether strace may watch a process here: only it sees what native code asks for."""
    program = shutil.which("strace")
    return program is not None and subprocess.run([program, "-qq", "true"], capture_output=True).returncode == 0


def test_the_main_jobs_contact_nothing(
    calibrated_checkpoint: Path, tiny_faces: Path, tmp_path: Path, test_store: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    environment = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    environment |= {"GUARD_LOG": str(tmp_path / "asked"), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    path = [str(tmp_path), str(Path(arcinvert.__file__).parents[1])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    arguments = [str(EXAMPLE), str(calibrated_checkpoint), str(tiny_faces), str(test_store), str(tmp_path / "out")]
    if find_spec("c2pa") is not None:
        from certificates import write_signer

        arguments += map(str, write_signer(tmp_path, ocsp="http://192.0.2.1/"))
    (tmp_path / "out").mkdir()
    trace = tmp_path / "trace"
    watch = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmmsg,sendmsg", "-e", "signal=none"]
    command = [*([*watch, "-o", str(trace)] if can_trace() else []), sys.executable, "-c", JOBS, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1]).values()) == {0}, done.stderr
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    if trace.exists():
        addresses = re.findall(r'sin6?_port=htons\((\d+)\).*?"([0-9a-f.:]+)"', trace.read_text(errors="replace"))
        here = ("127.0.0.1", "::1", "::ffff:127.0.0.1")  # port 53: a resolver of names may run on this machine too
        assert [(port, host) for port, host in addresses if host not in here or port == "53"] == []
    ids = [path for name in (".ses", ".onnxruntime") for path in tmp_path.rglob(name)]
    assert ids == [], "onnxruntime wrote an id of this installation"


def test_the_guard_sees_a_look_up_and_a_connection(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    code = "import socket\nfor ask in (lambda: socket.getaddrinfo('example.org', 80),"
    code += " lambda: socket.create_connection(('192.0.2.1', 80))):\n    try: ask()\n    except OSError: pass"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "GUARD_LOG": str(tmp_path / "asked")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    asked = (tmp_path / "asked").read_text()
    assert "example.org" in asked
    assert "192.0.2.1" in asked


@pytest.fixture
def test_store(calibrated_checkpoint: Path, tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    np.savez(tmp_path / "store.npz", embeddings=rows, labels=np.array(["a", "a", "b", "b"]))
    return tmp_path / "store.npz"
