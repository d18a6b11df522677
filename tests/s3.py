"""An S3 for the tests: moto's server, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def running() -> Iterator[str]:
    """The address of an empty server, gone afterwards."""
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    # fsspec keeps file systems by their options, and the address of a server that is gone is none of them.
    S3FileSystem.clear_instance_cache()
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        S3FileSystem.clear_instance_cache()
