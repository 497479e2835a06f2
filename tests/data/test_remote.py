"""Folders and archives in a bucket: an emulator of S3 on this machine."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load, open_records
from jaxgen.errors import InputError
from tests.support import images

PIXELS = images(0, 4, 4, 4, 1)


@pytest.fixture(scope="module")
def bucket():
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    emulator = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    emulator.start()
    host, port = emulator.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("data")
        for i, image in enumerate(PIXELS):
            stream = io.BytesIO()
            Image.fromarray(image[..., 0]).save(stream, "png")
            for name in (f"train/{'ab'[i % 2]}/{i}.png", f"train/.hidden/{i}.png"):
                files.pipe(f"data/set/{name}", stream.getvalue())
        files.pipe("data/set/test/metadata.csv", b"file_name,label\n0.png,b\n")
        files.pipe("data/set/test/0.png", stream.getvalue())
        stream = io.BytesIO()
        np.savez(stream, images=PIXELS, labels=np.arange(4))
        files.pipe("data/d.npz", stream.getvalue())
        yield
        s3fs.S3FileSystem.clear_instance_cache()
    emulator.stop()


@pytest.mark.slow
def test_a_folder_and_an_archive_in_a_bucket(bucket):
    train, test = load("folder:s3://data/set", "train"), load("folder:s3://data/set", "test")
    assert np.array_equal(train.images, PIXELS[[0, 2, 1, 3]])
    assert train.labels.tolist() == [0, 0, 1, 1] and test.labels.tolist() == [1]
    records = pickle.loads(pickle.dumps(open_records("npz:s3://data/d.npz", "train")))
    assert np.array_equal(records.batch(np.array([3, 1]))["image"], PIXELS[[3, 1]])
    for source in ("folder:s3://data/none", "npz:s3://data/none.npz"):
        with pytest.raises(InputError, match="there is no such"):
            load(source, "train")
