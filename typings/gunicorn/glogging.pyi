import logging

class Logger:
    error_log: logging.Logger
    access_log: logging.Logger
    def __init__(self, cfg: object) -> None: ...
    def setup(self, cfg: object) -> None: ...
