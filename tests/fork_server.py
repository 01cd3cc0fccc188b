"""Python programs of tests start by a fork of a process that has torch loaded already: two seconds less each.

`install` has this process start `python -m daybreak`, torchrun, scripts and what multiprocessing spawns that way, and
so do these in turn: a server its drawing process, torchrun its ranks. Each is a process of its own and a child of the
one that started it, with its own pid, signals, environment, folder and open files. `python -c`, other flags, and an
environment that libraries read while they load start as ever.
"""

from __future__ import annotations

import _posixsubprocess
import atexit
import ctypes
import fcntl
import gc
import importlib
import io
import os
import pickle
import re
import runpy
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TextIO

ROOT = Path(__file__).parents[1]
LOADED = (
    "torch.distributed.launcher.api", "torch.distributed.tensor", "torch.distributed.checkpoint", "torch._dynamo",
    "torch.utils.tensorboard", "daybreak.commands.train", "daybreak.serve.open", "daybreak.serve.worker",
)  # fmt: skip
"""What most programs import, but for daybreak.cli, which reads how wide its terminal is."""
PIPELINES = (
    "daybreak.commands.finetune", "daybreak.encoders.pretrained_text", "diffusers.pipelines.pipeline_utils",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion", "peft",
)  # fmt: skip
LOADED_FOR = {
    "finetune": PIPELINES,
    "export": PIPELINES,
    "prefer": PIPELINES,
    "evaluate": ("daybreak.commands.evaluate", "transformers.models.clip.modeling_clip"),
    "serve": ("uvicorn", "daybreak.commands.serve", "daybreak.serve.app"),
}
"""What is loaded before the first start of a program with this word, where it is installed."""
READ_WHILE_LOADING = re.compile(
    r"(?:OMP|MKL|KMP|OPENBLAS|LD|MALLOC|CUDA|HF|TRANSFORMERS|DIFFUSERS)_|PYTHON(?!PATH|UNBUFFERED)"
)
SPAWNED = re.compile(r"from multiprocessing\.spawn import spawn_main; spawn_main\(.*\)")
NAME = "fork-server"
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
exec_new = _posixsubprocess.fork_exec


@dataclass(frozen=True)
class Start:
    """A program that is asked for, and by which process."""

    words: list[str]
    folder: str
    environment: dict[str, str]
    files: list[int]
    """The numbers of its open files."""
    session: bool
    group: int
    parent: int


class ForkServer:
    """The process that forks for this one."""

    def __init__(self, connection: socket.socket, environment: dict[str, str]) -> None:
        self.connection, self.environment = connection, _read_while_loading(environment)
        self.lock = threading.Lock()

    def start(self, start: Start, files: list[int]) -> int:
        """The pid of a new child of this process."""
        with self.lock:
            # The server is a child of ours. A child of its child, which ends at once, is an orphan, and becomes ours.
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
            try:
                _send(self.connection, pickle.dumps(start), files)
                return int(receive(self.connection)[0])
            finally:
                _prctl(PR_SET_CHILD_SUBREAPER, 0)


server: ForkServer | None = None
starting = threading.Lock()


def install() -> None:
    """From now on programs start by forks."""
    if sys.platform == "linux":
        _posixsubprocess.fork_exec = subprocess._fork_exec = _fork_exec


@contextmanager
def new_interpreters() -> Iterator[None]:
    """Within, each program starts as a user starts it."""
    before = _posixsubprocess.fork_exec
    _posixsubprocess.fork_exec = subprocess._fork_exec = exec_new
    try:
        yield
    finally:
        _posixsubprocess.fork_exec = subprocess._fork_exec = before


def _fork_exec(*given) -> int:
    """In the place of what subprocess and multiprocessing start programs with."""
    args, _, close_fds, keep, folder, variables = given[:6]
    stdin, _, _, stdout, _, stderr, _, errors, _, session, group = given[6:17]
    words, environment = list(map(os.fsdecode, args)), dict(os.environ)
    if variables is not None:
        environment = dict(os.fsdecode(variable).split("=", 1) for variable in variables)
    plain = close_fds and given[17:22] == (None, None, None, -1, None)  # no other user, umask, function before it
    if not plain or not _can_fork(words) or _server().environment != _read_while_loading(environment):
        return exec_new(*given)
    files = {0: stdin, 1: stdout, 2: stderr} | {fd: fd for fd in keep if fd != errors}
    folder = Path(os.fsdecode(folder or b".")).absolute()
    start = Start(words, str(folder), environment, list(files), bool(session), group, os.getpid())
    return _server().start(start, [fd if fd >= 0 else number for number, fd in files.items()])


def _can_fork(words: list[str]) -> bool:
    if words[0] != sys.executable:
        return False
    match _without_flags(words[1:]):
        case ["-m", module, *_]:
            return module.split(".")[0] in ("daybreak", "torch")
        case ["-c", code, *_]:
            return SPAWNED.fullmatch(code) is not None
        case [script, *_]:
            return script.endswith(".py")
    return False


def _without_flags(words: list[str]) -> list[str]:
    """Without the flags that change nothing of what is loaded: unbuffered, and no bytecode written."""
    first = next((i for i, word in enumerate(words) if word not in ("-u", "-B")), len(words))
    return words[first:]


def _server() -> ForkServer:
    global server
    with starting:
        if server is None:
            ours, theirs = socket.socketpair()
            code = f"from tests import fork_server; fork_server.main({theirs.fileno()})"
            own = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
            own["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # pyarrow's; there is one thread where we fork
            with theirs, new_interpreters():
                process = subprocess.Popen(
                    [sys.executable, "-c", code], env=os.environ | own, pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            server = ForkServer(ours, dict(os.environ))
            atexit.register(lambda: (ours.close(), process.wait()))
        return server


def main(number: int) -> None:
    """The server: it loads, waits, and in a fork of itself becomes each program that is asked for."""
    before = dict(os.environ)
    gc.disable()
    for module in LOADED:
        importlib.import_module(module)
    own = {name: value for name, value in os.environ.items() if name not in before}  # libraries set some
    install()
    connection = socket.socket(fileno=number)
    while True:
        start, files = _serve(connection)
        ours, theirs = socket.socketpair()
        if os.fork():
            break
        for fd in files:  # here goes on the program's own server
            os.close(fd)
        ours.close()
        connection = theirs
    theirs.close()
    global server
    variables = own | start.environment
    server = ForkServer(ours, variables)
    _become(start, files, variables)


def _serve(connection: socket.socket) -> tuple[Start, list[int]]:
    """Forks on each request; returns in the fork, once it is a child of who asked for it."""
    _prctl(PR_SET_NAME, NAME.encode())
    _keep_loaded()
    loaded = set()
    while True:
        content, files = receive(connection)
        if not content:
            os._exit(0)
        start: Start = pickle.loads(content)
        for word in LOADED_FOR.keys() & set(start.words) - loaded:
            loaded.add(word)
            with suppress(ImportError):
                for module in LOADED_FOR[word]:
                    importlib.import_module(module)
            _keep_loaded()
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a library started a thread while it was loaded"
        read, write = os.pipe()
        if not (between := os.fork()):
            if child := os.fork():
                os.write(write, str(child).encode())
                os._exit(0)
            connection.close()
            os.close(read)
            os.close(write)
            while os.getppid() != start.parent:
                time.sleep(0.0005)
            return start, files
        os.waitpid(between, 0)
        _send(connection, os.read(read, 20), [])
        for fd in (read, write, *files):
            os.close(fd)


def _keep_loaded() -> None:
    """What is loaded is not looked through for garbage in each fork, which would also copy its memory."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _become(start: Start, files: list[int], variables: dict[str, str]) -> None:
    """Runs the program in this process, with its files, folder, environment and words."""
    if start.session:
        os.setsid()
    elif start.group >= 0:
        os.setpgid(0, start.group)
    _prctl(PR_SET_NAME, b"python")
    # Out of the way first: the number that one came with may be the one that another shall have.
    spare = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 512) for fd in files]
    for fd in files:
        os.close(fd)
    for fd, number in zip(spare, start.files, strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(start.folder)
    before, after = (e.get("PYTHONPATH", "").split(os.pathsep) for e in (os.environ, variables))
    path = list(filter(None, after)) + [place for place in sys.path if place and place not in before]
    os.environ.clear()
    os.environ.update(variables)
    gc.enable()
    words = _without_flags(start.words[1:])
    unbuffered = "-u" in start.words[1 : len(start.words) - len(words)] or bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, encoding=sys.stdin.encoding, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _writer(1, sys.stdout, unbuffered)
    sys.stderr = sys.__stderr__ = _writer(2, sys.stderr, unbuffered)
    importlib.invalidate_caches()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    sys.modules["daybreak"].STARTED = time.time()
    code = 0
    try:
        _run(words, path)
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    # What Python does at its end, but for taking apart all that is loaded: a fifth of a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _run(words: list[str], path: list[str]) -> None:
    """As the interpreter runs `python WORDS`."""
    sys.modules["__main__"] = program = ModuleType("__main__")
    match words:
        case ["-m", module, *rest]:
            sys.path[:], sys.argv[:] = [str(Path.cwd()), *path], ["-m", *rest]
            runpy._run_module_as_main(module)
        case ["-c", code, *rest]:
            sys.path[:], sys.argv[:] = ["", *path], ["-c", *rest]
            exec(code, program.__dict__)
        case [script, *_]:
            sys.path[:], sys.argv[:] = [str(Path(script).absolute().parent), *path], words
            program.__file__ = script
            exec(compile(Path(script).read_bytes(), script, "exec"), program.__dict__)


def _writer(fd: int, like: TextIO, unbuffered: bool) -> TextIO:
    raw = open(fd, "wb", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
    lines = not unbuffered and (fd == 2 or raw.isatty())
    return io.TextIOWrapper(raw, like.encoding, like.errors, "\n", line_buffering=lines, write_through=unbuffered)


def _read_while_loading(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if READ_WHILE_LOADING.match(name)}


def _prctl(option: int, value: int | bytes) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _send(connection: socket.socket, content: bytes, files: list[int]) -> None:
    socket.send_fds(connection, [struct.pack("<I", len(content))], files)
    connection.sendall(content)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """What was sent, and new numbers of the files that came with it; nothing where the other end is closed."""
    head, files, _, _ = socket.recv_fds(connection, 4, 64)
    if not head:
        return b"", files
    content, length = b"", struct.unpack("<I", head)[0]
    while len(content) < length:
        content += connection.recv(length - len(content))
    return content, files
