"""`daybreak` and `torchrun` for shell scripts of tests, started by this process, which does it fast (fork_server.py).

The file that the script finds on its path hands over words, folder, environment and open files, passes signals on, and
ends as the program does. Where it is killed, so is the program.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fork_server import receive

MODULES = {"daybreak": "daybreak", "torchrun": "torch.distributed.run"}
COMMAND = """#!{python} -SE
import json, os, signal, socket, struct, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: server.sendall(bytes([number])))
asked = json.dumps([["-m", {module!r}, *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [struct.pack("<I", len(asked))], [0, 1, 2])
server.sendall(asked)
sys.exit(int(server.recv(10) or 1))
"""


@contextmanager
def commands() -> Iterator[Path]:
    """A folder for PATH that holds them."""
    folder = Path(tempfile.mkdtemp(prefix="commands-"))  # a socket's path is 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "socket"))
            listener.listen()
            threading.Thread(target=_accept, args=(listener,), daemon=True).start()
            for name, module in MODULES.items():
                text = COMMAND.format(python=sys.executable, address=str(folder / "socket"), module=module)
                (folder / name).write_text(text)
                (folder / name).chmod(0o755)
            yield folder
            listener.shutdown(socket.SHUT_RDWR)
    finally:
        shutil.rmtree(folder)


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):  # it is closed
        while True:
            threading.Thread(target=_run, args=(listener.accept()[0],), daemon=True).start()


def _run(connection: socket.socket) -> None:
    content, files = receive(connection)
    words, folder, variables = json.loads(content)
    stdin, stdout, stderr = files
    process = subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=variables, stdin=stdin, stdout=stdout, stderr=stderr,
        start_new_session=True,
    )  # fmt: skip
    for fd in files:
        os.close(fd)
    threading.Thread(target=_pass_on, args=(connection, process), daemon=True).start()
    code = process.wait()
    with suppress(OSError):  # it was killed
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    connection.close()


def _pass_on(connection: socket.socket, process: subprocess.Popen) -> None:
    """Signals, each a byte."""
    with suppress(OSError):
        while number := connection.recv(1):
            process.send_signal(number[0])
    process.kill()
