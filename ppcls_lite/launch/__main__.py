"""Paddle's own launcher, which ends with the process that started it."""

import runpy

from ppcls_lite.environment import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("paddle.distributed.launch", run_name="__main__", alter_sys=True)
