"""An S3 server on loopback (moto) that does what it is asked and loses some of its answers."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "lake"


@dataclass(slots=True)
class LossyS3:
    """The server's address, and how often it keeps an answer to itself."""

    port: int
    lost_share: float
    draws: random.Random
    answers: int = 0
    lost: int = 0
    is_lossy: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def properties(self) -> dict[str, str]:
        """What PyIceberg needs to find it, but the keys."""
        return {
            "s3.endpoint": f"http://127.0.0.1:{self.port}",
            "s3.region": "us-east-1",
            "s3.connect-timeout": "30",
            "s3.request-timeout": "60",
        }

    def loses(self) -> bool:
        with self._lock:
            self.answers += 1
            lost = self.is_lossy and self.draws.random() < self.lost_share
            self.lost += lost
            return lost


KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any, **__: Any) -> None:
        return

    def connection_dropped(self, *_: Any, **__: Any) -> None:
        self.close_connection = True


@contextmanager
def lossy_s3(*, lost_share: float, seed: int = 0) -> Iterator[LossyS3]:
    """Run the server, with an empty bucket, for the time of the block. `KEYS` must be in the clients' environment."""
    moto = DomainDispatcherApplication(create_backend_app)
    state = LossyS3(0, lost_share, random.Random(seed))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # What was asked for is done first.
        answer = list(moto(environ, start_response))
        if state.loses():
            raise ConnectionResetError("the answer was lost")
        return answer

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, name="s3", daemon=True)
    thread.start()
    try:
        with mock.patch.dict("os.environ", KEYS):
            _make_bucket(state)
            yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _make_bucket(state: LossyS3) -> None:
    from pyarrow.fs import S3FileSystem

    state.is_lossy = False
    system = S3FileSystem(
        endpoint_override=f"127.0.0.1:{state.port}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        request_timeout=60,
    )
    system.create_dir(BUCKET)
    state.is_lossy = True
