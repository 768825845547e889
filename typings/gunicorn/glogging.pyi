import logging

class Logger:
    error_log: logging.Logger
    access_log: logging.Logger
    def setup(self, cfg: object) -> None: ...
