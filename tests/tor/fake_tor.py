"""A program that says at its control socket that it is a Tor of some version; it opens nothing else.

Usage: fake_tor.py VERSION FILE, and what a Tor is told. Where its control socket is to be says the torrc on
standard input; all commands that it gets go to FILE.
"""

import re
import socket
import sys
from pathlib import Path

VERSION, FILE = sys.argv[1:3]
ANSWERS = {
    "PROTOCOLINFO": "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK\r\n",
    "GETINFO": f"250-version={VERSION}\r\n250 OK\r\n",
}


def serve(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        connection, _ = server.accept()
        with connection, connection.makefile("rw", newline="") as stream, Path(FILE).open("a") as log:
            for line in stream:
                log.write(line)
                log.flush()
                stream.write(ANSWERS.get(line.split()[0], "250 OK\r\n"))
                stream.flush()


if __name__ == "__main__":
    found = re.search(r'^ControlSocket "unix:\\"(.*)\\" ', sys.stdin.read(), re.MULTILINE)
    serve(found[1] if found else "")
