"""A run in a bucket, from training over a kill to samples, against emulators of S3 and GCS."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

VAE = "--config=configs/digits/vae.py:smoke"

for package in ("moto", "s3fs", "gcsfs", "gcp_storage_emulator"):
    pytest.importorskip(package, reason="pip install 'jaxgen[test_buckets]'")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def emulator(script: str, *arguments: str):
    """A server on this machine that answers at the address that is yielded."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(port), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            assert server.poll() is None
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


S3 = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
GCS = """
import sys
from http import server
server.HTTPServer = server.ThreadingHTTPServer  # tensorstore opens many connections at once
server.HTTPServer.request_queue_size = 128
from gcp_storage_emulator.handlers import objects
plain = objects.download
def download(request, response, storage, *args, **kwargs):
    plain(request, response, storage, *args, **kwargs)
    if response.status.value < 300:  # tensorstore asks for what this emulator leaves out
        places = request.params["bucket_name"], request.params["object_id"]
        response["x-goog-generation"] = storage.get_file_obj(*places)["generation"]
objects.download = download
from gcp_storage_emulator.server import create_server
create_server('127.0.0.1', int(sys.argv[1]), in_memory=True, default_bucket='bucket').run()
"""


@pytest.fixture(params=["s3", "gs"])
def bucket(request, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    with emulator({"s3": S3, "gs": GCS}[request.param]) as address:
        if request.param == "s3":
            for name, value in dict(
                AWS_ENDPOINT_URL=address,
                AWS_ACCESS_KEY_ID="a",
                AWS_SECRET_ACCESS_KEY="b",
                AWS_DEFAULT_REGION="us-east-1",
            ).items():
                monkeypatch.setenv(name, value)
            urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"))
        else:
            for name, value in dict(
                STORAGE_EMULATOR_HOST=address,
                TENSORSTORE_GCS_HTTP_URL=address,
                GOOGLE_AUTH_TOKEN_FOR_TESTING="a",
                GOOGLE_CLOUD_PROJECT="project",
            ).items():
                monkeypatch.setenv(name, value)
        yield f"{request.param}://bucket"


@pytest.mark.slow
def test_trained_killed_resumed_and_sampled(bucket, tmp_path):
    root = os.getcwd()

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "jaxgen", *arguments, "--noprogress"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root, "XLA_FLAGS": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(*arguments, code=0):
        process = start(*arguments)
        out, error = process.communicate(timeout=600)
        assert process.returncode == code, error
        return out + error

    script = (
        "import sys; from jaxgen import files; top = sys.argv[1] + '/checkpoints/';"
        "done = [n for n in files.listdir(top) if files.exists(f'{top}{n}/{files.MARK}')];"
        "print(max(map(int, filter(str.isdecimal, done)), default=0))"
    )

    def newest():
        found = subprocess.run(
            [sys.executable, "-c", script, f"{bucket}/run"], capture_output=True, text=True
        )
        return int(found.stdout or 0)

    train = ["train", f"--config={root}/{VAE.removeprefix('--config=')}", f"--workdir={bucket}/run"]
    process = start(*train, "--config.train.steps=100000", "--config.checkpoint.every=50")
    deadline = time.monotonic() + 300
    while not newest() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    reached = newest()
    said = done(*train, f"--config.train.steps={reached + 4}")
    assert f"resuming {bucket}/run from step {reached}" in said
    assert f"finished at step {reached + 4}" in said
    said = done("sample", f"--workdir={bucket}/run", "--num=4", f"--out={bucket}/samples/a.npz")
    assert f"4 samples of step {reached + 4}: {bucket}/samples/a.png {bucket}/samples/a.npz" in said
    said = done("evaluate", f"--workdir={bucket}/run", "--num=32", f"--out={bucket}/found")
    assert f"written: {bucket}/found.json" in said
    data = f"--config.data.source=npz:{bucket}/samples/a.npz"
    splits = [f"--config.data.{name}=train" for name in ("train", "validation", "test")]
    workdir = f"--workdir={tmp_path}/local"
    done(*train[:2], workdir, data, *splits, "--config.data.num_classes=0")  # data in a bucket
    copy = f"import sys; from jaxgen import files; print(files.fetched('{bucket}/samples/a.npz'))"
    path = subprocess.run([sys.executable, "-c", copy], capture_output=True, text=True).stdout
    assert np.load(path.strip())["arr_0"].shape == (4, 8, 8, 1)
    assert sorted(os.listdir(tmp_path)) == ["cache", "local"]
    said = done(*train[:2], f"--workdir={bucket.replace('bucket', 'nobucket')}/run", code=2)
    assert len(said.splitlines()) == 1 and "nobucket/run cannot be written" in said
