import socket
from concurrent.futures import ThreadPoolExecutor

from gunicorn.app.base import BaseApplication

class ThreadWorker:
    alive: bool
    tpool: ThreadPoolExecutor
    def __init__(
        self,
        age: int,
        ppid: int,
        sockets: list[socket.socket],
        app: BaseApplication,
        timeout: float | None,
        cfg: object,
        log: object,
    ) -> None: ...
    def init_process(self) -> None: ...
    def load_wsgi(self) -> None: ...
    def handle(self, conn: object) -> object: ...
    def is_parent_alive(self) -> bool: ...
