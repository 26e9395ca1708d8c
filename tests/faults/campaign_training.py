"""Random faults on trainings of two machines, each ending with an undisturbed training's bits.

    make campaign-training
    python tests/faults/campaign_training.py --minutes 30 --seed 1

Every training runs as two launch.py, in network namespaces where that may be, else at two ports of
one. Every 20 to 60 s something happens to it; at its end its weights and optimizer state are
compared with those of one machine with two processes, which nothing happened to.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from conftest import picture  # noqa: E402
from machines import Machine, bits, can_make_networks, family, free_port, ip, network, nobody_left  # noqa: E402

TRAIN = ("--seed=1", "--print-freq=50", "--rank-timeout=60", "--keep-checkpoints=2")

HANGS = 1200  # seconds after which a training is taken for hanging


def make_pictures(root):
    """The pictures of the tests: three colours, 42 to train on and 21 to validate."""
    for split, count, start in (("train", 14, 0), ("val", 7, 500)):
        for class_id, name in enumerate(("blue", "green", "red")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(start, start + count):
                picture(class_id, number).save(folder / f"{number}.png")


class Campaign:
    """Trainings until the time is over.

    Args:
        folder: for everything.
        draws: of the faults and their times.
        flags: of train.py.
        pause: the shortest and the longest time between two faults, seconds.
    """

    def __init__(self, folder, draws, flags, pause):
        self.folder, self.draws, self.flags, self.pause = folder, draws, flags, pause
        self.tried = Counter()
        self.lost = []
        self.is_network = can_make_networks()

    def training(self, number, deadline, expected):
        """One training with faults; returns whether it ended with the expected bits."""
        folder = self.folder / f"training-{number}"
        with contextlib.ExitStack() as stack:
            names, address, port = ("", ""), "127.0.0.1", free_port()
            if self.is_network:
                made = stack.enter_context(network())
                names, address = [name for name, _ in made], made[0][1]
            launch = [f"--master={address}:{port}", "--nodes=2", "--nproc-per-node=1",
                      "--restarts=1000", "--node-timeout=120"]  # fmt: skip
            train = [*self.flags, f"--output-dir={folder}/out"]
            pair = [
                Machine(folder / f"machine-{i}", launch, train, name)
                for i, name in enumerate(names)
            ]
            for machine in pair:
                stack.callback(machine.end)
            hangs = time.monotonic() + HANGS
            while self.wait(pair, self.draws.uniform(*self.pause)) and time.monotonic() < hangs:
                if time.monotonic() < deadline:
                    self.fault(pair)
            statuses = [machine.process.poll() for machine in pair]
        same = statuses == [0, 0] and bits(folder / "out") == expected
        left = nobody_left(str(folder))
        print(f"training {number}: status {statuses}, bits {'same' if same else 'DIFFERENT'},"
              f" {len(left)} processes left", flush=True)  # fmt: skip
        if not same or left:
            self.lost.append(number)
        return same

    def wait(self, pair, seconds):
        """Waits so long; returns whether a machine is still at work then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all(machine.process.poll() is not None for machine in pair):
                return False
            time.sleep(0.2)
        return any(machine.process.poll() is None for machine in pair)

    def fault(self, pair):
        """Lets something happen to one of two machines."""
        faults = [self.kill_rank, self.kill_rank, self.kill_launcher, self.kill_machine,
                  self.kill_decoders, self.slow]  # fmt: skip
        if self.is_network:
            faults.append(self.cut_link)
        machine = self.draws.choice(pair)
        what = self.draws.choice(faults)(machine)
        if what:
            self.tried[what] += 1
            place = pair.index(machine)
            print(f"  {time.strftime('%X')} machine {place}: {what}", flush=True)

    def kill_rank(self, machine):
        """SIGKILL of a training process, as the kernel does when memory is short."""
        for pid in machine.ranks().values():
            return sent(pid, signal.SIGKILL) and "a training process killed"

    def kill_launcher(self, machine):
        """SIGKILL of Paddle's launcher."""
        pid = machine.launcher()
        return pid and sent(pid, signal.SIGKILL) and "Paddle's launcher killed"

    def kill_decoders(self, machine):
        """SIGKILL of everything that a training process started."""
        for pid in machine.ranks().values():
            if found := family(pid):
                return sent(self.draws.choice(found), signal.SIGKILL) and "a decode worker killed"

    def kill_machine(self, machine):
        """SIGKILL of all of a machine, which comes back after some seconds."""
        if machine.process.poll() is None:
            machine.end()
            time.sleep(self.draws.uniform(0, 10))
            machine.start()
            return "a machine killed and back"

    def slow(self, machine):
        """A training process that stands still for a while."""
        for pid in machine.ranks().values():
            seconds = self.draws.choice((2, 10, 40))
            if sent(pid, signal.SIGSTOP):
                time.sleep(seconds)
                sent(pid, signal.SIGCONT)
                return f"a process stood still for {seconds} s"

    def cut_link(self, machine):
        """A link that is down for a while."""
        seconds = self.draws.choice((2, 10, 45))
        ip("-n", machine.namespace, "link", "set", "eth0", "down")
        time.sleep(seconds)
        ip("-n", machine.namespace, "link", "set", "eth0", "up")
        return f"a link down for {seconds} s"


def sent(pid, number):
    """Sends a signal; returns whether the process was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def main():
    """Runs the campaign; status 1 when a training ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=60, help="of each training")
    parser.add_argument("--pause", type=float, nargs=2, default=(20, 60), help="between faults, s")
    parser.add_argument("--keep", help="folder for logs and checkpoints, which then stay")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(asked.keep or stack.enter_context(tempfile.TemporaryDirectory()))
        make_pictures(folder / "pictures")
        flags = [f"--data-path={folder}/pictures", f"--epochs={asked.epochs}", *TRAIN]
        alone = Machine(
            folder / "undisturbed", ["--nproc-per-node=2"],
            [*flags, f"--output-dir={folder}/undisturbed/out"],
        )  # fmt: skip
        stack.callback(alone.end)
        begin = time.monotonic()
        if alone.wait(3600) != 0:
            print(alone.said(), alone.logs())
            return 1
        print(f"undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
        campaign = Campaign(folder, random.Random(asked.seed), flags, asked.pause)
        print("two machines: " + ("network namespaces" if campaign.is_network else "one address"))
        deadline, number = time.monotonic() + 60 * asked.minutes, 0
        expected = bits(folder / "undisturbed/out")
        while time.monotonic() < deadline:
            campaign.training(number, deadline, expected)
            number += 1
        print(f"{number} trainings, {sum(campaign.tried.values())} faults:")
        for what, count in sorted(campaign.tried.items()):
            print(f"  {count:3} {what}")
        print(f"lost: {len(campaign.lost)} {campaign.lost or ''}")
        return 1 if campaign.lost else 0


if __name__ == "__main__":
    sys.exit(main())
