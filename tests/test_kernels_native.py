"""The C++ code under sanitizers, and the same numbers from other vector widths and CPUs.

Sanitizers need unoptimised code to be quick to compile: 5 to 15 s for each build.
"""

import os
import platform
import shutil
import subprocess

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

CXX = shutil.which("g++") or shutil.which("c++")
KERNELS = [f"-I{ROOT}/ppcls_lite/kernels", f"{ROOT}/tests/kernels_driver.cc"]
CHECKED = ("-O0", "-g1", "-fno-sanitize-recover=all")
ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 compilers")
pytestmark = pytest.mark.skipif(not CXX, reason="no C++ compiler")


def built(folder, *flags, compiler=CXX, libraries=()):
    """The program; skips where the compiler lacks what the flags ask for."""
    program = folder / "driver"
    command = [compiler, "-std=c++17", *flags, "-o", str(program), *libraries]
    done = subprocess.run(command, capture_output=True, text=True)
    if "unrecognized" in done.stderr or "cannot find" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr[-2000:]
    return program


def run(*command):
    # libgomp keeps its threads until the end; a leak of ours would be reported all the same.
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "4"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The driver with the address and undefined behaviour sanitizers."""
    flags = (*CHECKED, "-march=native", "-fopenmp", "-fsanitize=address,undefined")
    return built(tmp_path_factory.mktemp("address"), *flags, *KERNELS)


@pytest.fixture(scope="module")
def numbers(checked):
    return run(checked)


def assert_same(lines, numbers, tolerance=2e-5):
    """The same arrays; float32 sums in another order and with other contractions of a * b + c."""
    assert len(lines) == len(numbers) > 200
    sizes = {}
    for line, other in zip(lines, numbers, strict=True):
        *name, size, mixture = line.split()
        *other_name, other_size, other_mixture = other.split()
        assert name == other_name and np.isfinite(float(size)), line
        sizes[name[0]] = max(sizes.get(name[0], 0.0), float(other_size))
        limit = tolerance * sizes[name[0]]  # the largest array of the case so far
        assert abs(float(size) - float(other_size)) <= limit, (line, other)
        assert abs(float(mixture) - float(other_mixture)) <= 10 * limit, (line, other)


def test_blocks_compute_what_their_formulas_say(checked):
    lines = [line.split() for line in run(checked, "plain")]
    assert len(lines) > 200
    for case, array, error, size in lines:  # rounding of float32; measured up to 3e-6
        assert float(error) <= 1e-5 * float(size), (case, array, error, size)


def test_addresses_and_behaviour_are_sound_in_every_kernel(numbers):
    assert all(np.isfinite(float(word)) for line in numbers for word in line.split()[-2:])


@pytest.mark.parametrize("cpu", [(), ("-march=native",)], ids=["any", "this"])
def test_half_the_bits_are_sound_and_the_same_within_their_rounding(cpu, checked, tmp_path):
    # Any CPU keeps them; some multiply them, too.
    flags = (*CHECKED, *cpu, "-DMOBILE_BF16", "-fopenmp", "-fsanitize=address,undefined")
    program = built(tmp_path, *flags, *KERNELS)
    assert all(np.isfinite(float(word)) for line in run(program) for word in line.split()[-2:])
    # Compared where activations have no kinks: a case has so few values that one of them on another
    # side of a kink changes most of a gradient. Measured up to 0.03 on either CPU.
    assert_same(run(program, "smooth"), run(checked, "smooth"), tolerance=0.05)


def test_threads_do_not_race(numbers, tmp_path):
    # C++ threads: the thread sanitizer takes libgomp's barriers for races. 16 lanes wide, as on a
    # CPU with AVX-512, whose instructions the compiler replaces by two narrower ones each.
    wide = ("-D__AVX512F__",) if platform.machine() == "x86_64" else ()
    flags = (*CHECKED, *wide, "-pthread", "-fsanitize=thread")
    assert_same(run(built(tmp_path, *flags, *KERNELS)), numbers)


@ON_X86
def test_avx512_compiles(tmp_path):
    built(tmp_path, "-O1", "-march=skylake-avx512", "-fopenmp", "-S", *KERNELS)
    assembly = (tmp_path / "driver").read_text()
    assert "%zmm" in assembly


def test_arm_computes_the_same_numbers(numbers, tmp_path):
    compiler, machine = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if not compiler or not machine:
        pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
    flags = ("-O0", "-fopenmp", "-static")
    program = built(tmp_path, *flags, *KERNELS, compiler=compiler)
    assert_same(run(machine, program), numbers)


def test_windows_of_sound_and_damaged_pictures(tmp_path):
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (47, 61, 3), np.uint8)
    files = []
    for sampling in (0, 2):
        files.append(tmp_path / f"{sampling}.jpg")
        Image.fromarray(pixels).save(files[-1], subsampling=sampling, quality=90)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.jpg", progressive=True)
    files.append(tmp_path / "grey.jpg")
    whole = files[0].read_bytes()
    for cut in (0, 2, 300, len(whole) - 100):
        files.append(tmp_path / f"cut{cut}.jpg")
        files[-1].write_bytes(whole[:cut])
    for number in range(20):
        damaged = bytearray(whole)
        for at in draws.integers(20, len(whole), 4):
            damaged[at] = draws.integers(256)
        files.append(tmp_path / f"damaged{number}.jpg")
        files[-1].write_bytes(damaged)
    flags = (*CHECKED, "-march=native", "-ffp-contract=off", "-fsanitize=address,undefined")
    program = built(
        tmp_path, *flags, f"-I{ROOT}/ppcls_lite/data", f"{ROOT}/tests/window_driver.cc",
        libraries=["-ljpeg"],
    )  # fmt: skip
    lines = [line.split() for line in run(program, *files)]
    sums = {number: {s for n, s in lines if n == number} for number, _ in lines}
    assert len(sums) == len(files)
    assert all("-1" not in sums[str(i)] for i in (1, 2, 3)), "sound images decode"
    assert sums["4"] == sums["5"] == {"-1"}
