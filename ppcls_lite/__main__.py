"""`ppcls-lite VERB ...`: every command; train.py and the files of tools/ are the same.

Whatever happens, the process ends with a status and at most one message. `verbs` and all it needs
are imported inside of that, so that Ctrl-C is answered without a traceback from the start.
"""

import importlib
import io
import os
import signal
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from ppcls_lite.program import CHECKOUT, NAMES, environment_hint, help_command, os_remedy

if sys.version_info < (3, 10):  # noqa: UP036  # an older one can read little more than this file
    print(
        f"{sys.executable} is Python {sys.version.split()[0]}; 3.10 to 3.12 is needed"
        f"\n  next: {environment_hint()}",
        file=sys.stderr,
    )
    sys.exit(2)

from ppcls_lite.environment import in_company, leave, load_paddle, uncollected
from ppcls_lite.errors import RankLost, UserError, nearest


def main() -> None:
    """Entry point of the console command."""
    run_command("", sys.argv[1:], "ppcls-lite")


def run_file(file: str) -> None:
    """Runs the command of a file of the checkout, by the table of names, under the file's name."""
    name = Path(file).resolve().relative_to(CHECKOUT).as_posix()
    run_command(NAMES[name], sys.argv[1:], name)


def run_command(name: str, argv: list[str], prog: str) -> None:
    """Runs a command and ends the process with its exit status.

    The arguments are those of `dispatch`.

    A user's mistake, or a file that cannot be read or written, is one message and status 2; an
    interruption is status 130 or 143 (SIGTERM), a reader of the output that went away is 141, as
    shells have it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # class names need not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    received: list[int] = []

    def stop(number: int, frame: types.FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt  # what was begun is cleaned up, such as temporary folders

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, stop)
    try:
        try:
            from ppcls_lite.verbs import find

            name, argv, prog = find(name, argv, prog)
            status = dispatch(name, argv, prog)
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        status = 128 + signal.SIGPIPE
    except (KeyboardInterrupt, Exception) as error:
        # Extension modules turn a KeyboardInterrupt into an ImportError, SystemError and others.
        if received or isinstance(error, KeyboardInterrupt):
            stopped_by = signal.Signals(received[0]) if received else signal.SIGINT
            status = 128 + stopped_by
            if not in_company():  # one of several is asked to end when another one has ended
                print(f"{prog}: stopped by {stopped_by.name}", file=sys.stderr)
        elif isinstance(error, MemoryError):
            print(
                f"{prog}: not enough memory\n  next: free -m  # shows how much is left; a smaller"
                " --batch-size needs less",
                file=sys.stderr,
            )
            status = 2
        elif isinstance(error, UserError | OSError):
            print(f"{prog}: {explain(error, name, argv)}", file=sys.stderr)
            status = 2
        elif isinstance(error, RankLost):
            print(f"{prog}: {error}", file=sys.stderr)
            status = error.status
        elif isinstance(error, ModuleNotFoundError) and not of_this_package(error):
            print(
                f"{prog}: {sys.executable} (Python {sys.version.split()[0]}) has no package"
                f" {error.name}\n  next: {environment_hint()}",
                file=sys.stderr,
            )
            status = 2
        elif not in_company():
            raise
        else:
            import traceback  # takes a while, like everything that only an error needs

            traceback.print_exc()
            status = 1
    drop_unwritable_output()
    leave(status)


def dispatch(name: str, argv: list[str], prog: str) -> int:
    """Runs a command and returns its exit status.

    Args:
        name: of the command, as `verbs.find` tells it.
        argv: the arguments after it.
        prog: the program's name, for messages.

    Raises:
        UserError: something given cannot work.
    """
    from ppcls_lite import verbs
    from ppcls_lite.config import PictureLimit

    if name not in verbs.COMMANDS:
        if not argv or argv[0] in ("-h", "--help"):
            print("\n".join(verbs.usage(name, prog)))
            return 0
        known = verbs.actions(name) if name else verbs.verbs()
        raise UserError(
            f"unknown {'action' if name else 'verb'} {argv[0]}{nearest(argv[0], known)};"
            f" allowed: {', '.join(known)}",
            f"{help_command(prog)}  # says what each is for",
        )
    name, settings = verbs.settle(name, argv, prog)
    if isinstance(settings, PictureLimit) and settings.max_megapixels is not None:
        from ppcls_lite.data.decode import allow_megapixels  # imports Pillow, too slow for --help

        allow_megapixels(settings.max_megapixels)
    with uncollected():
        if verbs.COMMANDS[name].needs_paddle:
            load_paddle()
        command = importlib.import_module(f"ppcls_lite.commands.{name.replace(' ', '_')}")
    return command.run(settings)


def of_this_package(error: ModuleNotFoundError) -> bool:
    """Tells whether a module of ours is missing, which no installation of packages would mend."""
    return not error.name or error.name.partition(".")[0] == "ppcls_lite"


def explain(error: UserError | OSError, name: str = "", argv: Sequence[str] = ()) -> str:
    """Returns what went wrong, with the file's name where it is known, and what to run next.

    Args:
        error: what went wrong.
        name: of the command.
        argv: the arguments it was given.
    """
    if isinstance(error, UserError):
        if not error.hint.startswith("-"):
            return str(error)
        if in_company():  # the launcher's command line is not known here
            return f"{error.message}\n  next: run the same command with {error.hint}"
        from ppcls_lite.verbs import again

        return f"{error.message}\n  next: {again(name, list(argv), error.hint)}"
    if error.filename:
        from ppcls_lite.files import told_of_room  # imports a package, which may be missing

        error = told_of_room(error, Path(os.fsdecode(error.filename)))
    what = str(error.strerror or error)
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{where}{what}\n  next: {os_remedy(error)}"


def drop_unwritable_output() -> None:
    """Empties the buffer of stdout, if need be into nothing.

    Python would try to write the rest once more at its end, and complain about that.
    """
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
