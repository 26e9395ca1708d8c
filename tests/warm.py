"""Runs scripts in forks of one process that has imported paddle already.

Importing paddle takes two seconds of a core, more than what most tests ask of a script; the other
libraries take half a second. A fork is a process all the same: it has its own arguments,
environment, folder, pipes and exit status, and it loads the project's own code afresh. An export
that it starts is a fork, too; so is what a benchmark starts, where the test asks for that.

    python tests/warm.py SOCKET                           the process that forks
    python -S tests/warm.py SOCKET FILE.py ARGUMENT...    stands for `python FILE.py ARGUMENT...`,
                                                          or with `-m MODULE` or `-c CODE` in the
                                                          file's place
"""

import contextlib
import importlib
import json
import multiprocessing.process
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys

# What an export starts, behind the interpreter; and the variable with the address of the process
# that forks for it, which was told before it imported paddle what the old format needs.
EXPORT = ["-m", "ppcls_lite.deploy.export_child"]
EXPORTS = "PPCLS_LITE_TEST_EXPORTS"
OLD_FORMAT = {"FLAGS_enable_pir_api": "0"}
# The variable with the addresses of those that fork for a benchmark, by their number of threads,
# which paddle reads when it is imported; and what a benchmark starts.
BENCHMARK = "PPCLS_LITE_TEST_BENCHMARK"
MEASURED = re.compile(r"(.*/)?(our_peer|export_model|quantize)\.py")
PROBE = "our_peer"  # in the code of `python -c` that looks whether a build runs
# What the commands import beside paddle, as far as it is installed. Not onnxruntime: it starts a
# thread, which a fork would not have.
LIBRARIES = (
    "concurrent.futures.process", "docstring_parser", "filelock", "jinja2",
    "matplotlib.backends.backend_agg", "matplotlib.figure", "msgspec", "onnx", "onnxoptimizer",
    "paddle2onnx", "PIL.Image", "requests", "yaml",
)  # fmt: skip


def ask(address, argv):
    """Has a script run with this process' own files, folder and environment; ends as it did."""
    request = {"argv": argv, "cwd": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"."], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        status = connection.recv(16)
    if not status:
        sys.exit("the process that forks has ended")
    code = int(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(address):
    """Forks for every request; returns in each fork, with the request."""
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:  # its end: who started this has ended
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGINT, interrupted)
            return receive(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def receive(connection):
    """Returns in a fork that has the files of the one who asks; the parent reports its end."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
        return request
    for file in files:
        os.close(file)
    process = os.pidfd_open(pid)
    if process not in select.select([process, connection], [], [])[0]:
        os.kill(pid, signal.SIGKILL)  # nobody waits any more
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def is_export(args):
    """Tells whether a command is the process of an export."""
    return list(args) == [sys.executable, *EXPORT]


def address(args, environment):
    """Returns the socket of the process that forks for a command; None where it is a new one."""
    if is_export(args):
        return os.environ.get(EXPORTS)
    words = [args] if isinstance(args, str) else args
    python, first, *more = *map(str, words), "", ""
    is_measured = MEASURED.fullmatch(first) or (first == "-c" and PROBE in more[0])
    if python != sys.executable or not is_measured or BENCHMARK not in os.environ:
        return None
    return json.loads(os.environ[BENCHMARK]).get((environment or {}).get("OMP_NUM_THREADS"))


class Popen(subprocess.Popen):
    """Starts a process, some as a fork: what needs no more than the libraries and its own code."""

    def __init__(self, args, *more, **options):
        if socket_path := address(args, options.get("env")):
            args = [sys.executable, "-S", __file__, socket_path, *map(str, args[1:])]
        super().__init__(args, *more, **options)


def run(argv, cwd, environment):
    """Does what `python FILE.py ARGUMENT...` does; or with `-m MODULE`, `-c CODE` in its place."""
    import numpy as np

    np.random.seed()  # as in any new process; Python's own generator is seeded at a fork
    os.environ.clear()
    os.environ.update(environment)
    # As load_paddle does in a process that has not loaded it yet.
    if threads := environment.get("OMP_NUM_THREADS"):
        os.environ.setdefault("PPCLS_LITE_KERNEL_THREADS", threads)
    os.chdir(cwd)
    multiprocessing.process.ORIGINAL_DIR = cwd  # workers resolve the script's path against it
    subprocess.Popen = Popen
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    for name in [name for name in sys.modules if name.partition(".")[0] == "ppcls_lite"]:
        del sys.modules[name]  # another checkout has its own
    if argv[0] == "-c":
        sys.argv[:] = ["-c", *argv[2:]]
        sys.path[0] = ""
        exec(argv[1], {"__name__": "__main__"})
    elif argv[0] == "-m":
        sys.argv[:] = argv[1:]
        sys.path[0] = cwd
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = argv
        sys.path[0] = os.path.dirname(os.path.realpath(argv[0]))
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        ask(sys.argv[1], sys.argv[2:])
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from ppcls_lite.environment import load_paddle

    load_paddle()
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    del sys.path[0]
    run(**serve(sys.argv[1]))
