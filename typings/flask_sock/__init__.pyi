# The part of flask-sock that flask_stream/ uses; the package ships no types.
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from flask import Flask
from simple_websocket import Server

_P = ParamSpec("_P")

class Sock:
    def __init__(self, app: Flask | None = ...) -> None: ...
    def route(
        self, path: str
    ) -> Callable[[Callable[Concatenate[Server, _P], None]], Callable[Concatenate[Server, _P], None]]: ...
