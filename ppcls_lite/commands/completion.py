"""`ppcls-lite completion`: a script that lets the shell complete verbs and flags."""

import shtab

from ppcls_lite.commands.settings import CompletionConfig
from ppcls_lite.verbs import completion_parser


def run(config: CompletionConfig) -> int:
    """Prints the script; the shell reads it with `source` or `eval`."""
    print(shtab.complete(completion_parser(), shell=config.shell))
    return 0
