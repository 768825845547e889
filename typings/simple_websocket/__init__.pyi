# The part of simple-websocket that flask_stream/ uses; the package ships no types.
import socket

class Server:
    sock: socket.socket
    connected: bool
