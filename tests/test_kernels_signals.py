"""Signals that arrive while oneDNN multiplies on a stack of its own: nothing is overwritten.

`test_kernels_native.py` shows that every product of every kernel runs with signals blocked, on one
thread; here are the real product, real signals and Paddle. Each test is a process of its own:
pytest gives its main thread an alternate stack, which hides what is tested.
"""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

TRAINING = """
import os, signal, sys, threading
from ppcls_lite.environment import load_paddle
paddle = load_paddle()
from ppcls_lite import create_model
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels

paddle.seed(0)
model = accelerate(create_model("mobilenet_v3_small", 10, dropout=0.0), Kernels(2, BF16))
images, labels = paddle.randn([16, 3, 96, 96]), paddle.arange(16) % 10
start = {name: value.clone() for name, value in model.state_dict().items()}
received, done = [], threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: received.append(1))

def disturb(trainer):
    while not done.wait(0.02):
        signal.pthread_kill(trainer, signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)  # to any thread that takes it

def train(steps=12):
    model.set_state_dict(start)
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
    model.train()
    for _ in range(steps):
        paddle.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.clear_grad()
    return [value.numpy().tobytes() for value in model.state_dict().values()]

def main():
    right = train()
    assert right != [value.numpy().tobytes() for value in start.values()]
    threading.Thread(target=disturb, args=[threading.get_ident()]).start()
    try:
        print([train() == right for _ in range(3)])
    finally:
        done.set()
    assert len(received) > 20, received

HOW
"""


def run(code, **environment):
    """The finished process of some lines of Python."""
    # pytest's own number of threads is for Paddle, which takes the cores of the kernels.
    others = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=others | environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bf16", "how"),
    [
        ("False", "main()"),
        ("True", "main()"),
        ("False", "other = threading.Thread(target=main); other.start(); other.join()"),
    ],
    ids=["float32", "bfloat16", "in a thread"],
)
def test_a_training_under_signals_has_the_bits_of_an_undisturbed_one(bf16, how):
    done = run(TRAINING.replace("BF16", bf16).replace("HOW", how))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "[True, True, True]\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_product_starts_no_threads_beside_those_of_the_kernel(threads):
    # oneDNN's own OpenMP would: it does not see that it is called by one of several threads.
    code = f"""
import os
from ppcls_lite.environment import load_paddle
paddle = load_paddle()
from ppcls_lite.kernels import abi
from ppcls_lite.kernels.calls import Call, Kernels

x, weight, y = (paddle.zeros([512, 512]) for _ in range(3))
call = Call(Kernels({threads}), abi.Dense({threads}, 512, 512, 512), "dense")
call.point(call.struct, x=x, weight=weight, y=y)
before = len(os.listdir("/proc/self/task"))
call.run("forward")
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = run(code, OMP_NUM_THREADS="2")
    assert done.stdout == f"{threads - 1}\n", done.stderr[-2000:]


def test_an_abort_ends_the_process_and_pythons_handlers_are_as_before():
    code = """
import os, re, signal
from pathlib import Path
from ppcls_lite.environment import load_paddle

def caught():
    mask = int(re.search(r"SigCgt:\\s*(\\w+)", Path("/proc/self/status").read_text())[1], 16)
    return [number for number in range(1, 32) if mask >> (number - 1) & 1]

terminated = []
signal.signal(signal.SIGTERM, lambda *_: terminated.append(1))
before = caught()
load_paddle()
assert caught() == before, (caught(), before)
signal.raise_signal(signal.SIGTERM)
print(terminated, flush=True)
os.abort()
"""
    done = run(code)
    assert done.stdout == "[1]\n", done.stderr[-2000:]
    assert done.returncode == -signal.SIGABRT and done.stderr == ""
