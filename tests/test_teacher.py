"""Learning from a teacher: what it sees, that it stays as it is, and whole runs with one."""

import re
import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest
from conftest import picture, same_weights, start, train, wait_for
from test_engine import batches, frozen_network, make_run, weights

from ppcls_lite.data.imagenet import imagenet_names
from ppcls_lite.data.mixing import Mix
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import dygraph_forward
from ppcls_lite.engine.mutual import build_mutual
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.teacher import Teacher, answers_of, build_teacher, columns
from ppcls_lite.engine.train import train_batch
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import save_weights

HALF = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_the_teacher_sees_the_mixed_crops_with_its_own_mean_and_std():
    seen = []

    def forward(images):
        seen.append(images)
        return np.zeros((len(images), 5), np.float32)

    pixels = next(batches(1, 4)).images
    teacher = Teacher(ModelInfo("x", 5, preprocess=HALF), forward, "w")
    teacher.logits(pixels, Mix(0.25))
    plain = (pixels / 255 - 0.5) / 0.5
    expected = 0.25 * plain + 0.75 * np.roll(plain, 1, axis=0)
    # float32 against float64 for values within 1.
    np.testing.assert_allclose(seen[0], expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_a_step_with_a_teacher_moves_the_student_alone_and_towards_it():
    student, teacher = frozen_network(), frozen_network()
    with paddle.no_grad():
        teacher.classifier[-1].bias.set_value(paddle.arange(5, dtype="float32"))  # an opinion
    before = weights(teacher)
    info = ModelInfo("mobilenet_v3_small", 5, preprocess=Preprocess(36, 32))
    flags = {"teacher": info.name, "teacher_pretrained": "w.pdparams", "distill_loss": "js"}
    run = make_run(student, 99, lr=0.1, **flags)
    run = replace(run, teacher=Teacher(info, dygraph_forward(teacher), "w"))
    batch = next(batches(1, 8))
    losses = [train_batch(run, batch)[0].item() for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    after = weights(teacher)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_two_students_learn_from_each_other_and_go_on_where_they_were():
    flags = {"teacher": "mobilenet_v3_small", "distill_loss": "dml", "distill_weight": 0.9}
    config = TrainConfig(**flags, lr=0.1)
    info = ModelInfo("mobilenet_v3_small", 5, preprocess=Preprocess(36, 32))
    world = World(0, 1, "cpu")
    run = make_run(frozen_network(), 99, lr=0.1, **flags)
    run = replace(run, teacher=build_mutual(config, info, 0, world, {}))
    batch = next(batches(1, 8))
    before, losses = run.teacher.state(), []
    for _ in range(3):
        losses.append(train_batch(run, batch)[0].item())
    assert losses[-1] < losses[0]
    after = run.teacher.state()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {n for n in before if n.endswith(".weight")} <= moved, "every layer of the second moved"
    assert any(name.startswith("optimizer.") and "velocity" in name for name in after)
    again = build_mutual(config, info, 0, world, after)
    for peer in (run.teacher, again):  # the same state makes the same next step
        paddle.seed(5)
        peer.logits(batch.images, Mix()).sum().backward()
        peer.step(run.scaler, 0.1)
    end, end_again = run.teacher.state(), again.state()
    assert end.keys() == end_again.keys()
    assert all(np.array_equal(end[name], end_again[name]) for name in end)
    with pytest.raises(UserError, match="one process"):
        build_mutual(config, info, 0, World(0, 2, "cpu"), {})


STUDENT = ModelInfo("s", 3, classes=("a", "b", "c"))


@pytest.mark.parametrize(
    ("teacher", "word"),
    [
        (ModelInfo("m", 4), "has 4 classes, the student has 3, and they do not agree"),
        (ModelInfo("m", 3, classes=("x", "a", "c")), "only in the student: b; only in the teacher"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(teacher, word):
    with pytest.raises(UserError, match=word) as error:
        answers_of(teacher, STUDENT, "HINT")
    assert error.value.hint == "HINT"


def test_a_teachers_answers_are_brought_into_the_students_order():
    assert answers_of(ModelInfo("m", 3), STUDENT, "").is_identity
    assert answers_of(ModelInfo("m", 3, classes=("tench", "x", "y")), ModelInfo("s", 3), "").ids
    more = ModelInfo("m", 5, classes=("c", "d", "a", "e", "b"))
    assert answers_of(more, STUDENT, "").ids == (2, 4, 0)
    imagenet = ModelInfo("m", 1000, classes=imagenet_names(1000))
    assert answers_of(imagenet, ModelInfo("s", 2, classes=("n02012849", "Hen")), "").ids == (134, 8)


def test_classes_without_pictures_need_not_be_the_teachers():
    """A list of ids whose largest is 3: nobody says what its classes 0 and 2 are."""
    teacher = ModelInfo("m", 1000, classes=imagenet_names(1000))
    student = ModelInfo("s", 4, classes=("0", "n02012849", "2", "n01440764"))
    with pytest.raises(UserError, match="only in the student: 0, 2"):
        answers_of(teacher, student, "")
    match = answers_of(teacher, student, "", pictures=(0, 5, 0, 1))
    assert match.ids == (-1, 134, -1, 0)
    logits = np.random.RandomState(0).randn(3, 1000).astype(np.float32)
    found = columns(paddle.to_tensor(logits), match.ids).numpy()
    low = logits.min(axis=1)
    assert np.array_equal(found, np.stack([low, logits[:, 134], low, logits[:, 0]], axis=1))


def test_without_labels_a_student_may_learn_answers_that_its_pictures_have_no_names_for():
    """configs/clothing10_mobilenet_v3_small_features.yaml: ImageNet's answers to clothing."""
    teacher = ModelInfo("m", 3, classes=("tench", "hen", "crane"))
    clothes = ModelInfo("s", 3, classes=("dress", "hat"))
    match = answers_of(teacher, clothes, "", labels_count=False)
    assert match.ids == (0, 1, 2) and "labels do not count" in match.how
    with pytest.raises(UserError, match="do not agree"):
        answers_of(teacher, clothes, "", labels_count=True)
    mixed = ModelInfo("s", 3, classes=("hen", "hat", "dress"))  # one is called alike
    with pytest.raises(UserError, match="do not agree"):
        answers_of(teacher, mixed, "", labels_count=False)


def test_only_the_students_classes_of_a_larger_teacher_count(tmp_path):
    model = frozen_network()
    info = ModelInfo("mobilenet_v3_small", 5, {"width": 0.35}, tuple("vwxyz"), Preprocess(36, 32))
    save_weights(tmp_path / "t.pdparams", model.state_dict(), info)
    config = TrainConfig(train_crop_size=32)
    student = ModelInfo("s", 2, classes=("z", "W"))
    teacher = build_teacher(
        info.name, str(tmp_path / "t.pdparams"), student, config, World(0, 1, "gpu")
    )
    assert teacher.weights.endswith("2 of the 5 classes of the teacher mobilenet_v3_small, by name"
                                    ": W is w")  # fmt: skip
    batch = next(batches(1, 4))
    images = info.preprocess.normalize(batch.images)
    model.eval()
    expected = model(paddle.to_tensor(images)).numpy()[:, [4, 1]]
    assert np.array_equal(teacher.logits(batch.images, Mix()).numpy(), expected)


@pytest.fixture(scope="module")
def distilled(straight, pictures, tmp_path_factory):
    """Two epochs with a teacher, mixing, labels and ten unlabelled pictures; and its flags."""
    more = tmp_path_factory.mktemp("unlabelled")
    for number in range(10):
        picture(number % 3, 900 + number).save(more / f"{number}.png")
    flags = [
        "--teacher=mobilenet_v3_small", f"--teacher-pretrained={straight[0]}/best.pdparams",
        "--distill-weight=0.7", "--distill-temperature=2", f"--unlabelled-path={more}",
        "--mixup=0.2", "--cutmix=1", "--mix-prob=0.8", "--label-smoothing=0.1", "--epochs=2",
    ]  # fmt: skip
    out = tmp_path_factory.mktemp("distilled")
    done = train(pictures, out, *flags)
    assert done.returncode == 0, done.stderr
    return out, flags, done.stdout


def test_a_run_with_a_teacher_says_so_and_counts_every_picture(distilled, straight):
    out, _, printed = distilled
    assert f"teacher   mobilenet_v3_small, {straight[0]}/best.pdparams; soft loss" in printed
    assert "52 train, 21 val images" in printed
    assert "evaluating with dygraph" not in printed, "the exported teacher answers as it should"
    assert len(re.findall(r"avg_samples: 8\.0", printed)) >= 4
    assert (out / "best.pdparams").is_file()


def test_a_stopped_run_with_a_teacher_resumes_to_the_same_bits(distilled, pictures, tmp_path):
    out, flags, _ = distilled
    process = start(pictures, tmp_path, *flags, "--print-freq=1")
    wait_for(process, "[Epoch 0, iter: 2]")
    process.terminate()
    process.communicate(timeout=60)
    again = train(pictures, tmp_path, "--resume=auto")
    assert again.returncode == 0, again.stderr
    assert same_weights(out / "model_1.pdparams", tmp_path / "model_1.pdparams")


def test_a_stopped_run_of_two_students_resumes_to_the_same_bits(pictures, tmp_path):
    flags = ["--teacher=mnasnet0_5", "--distill-loss=dml", "--distill-weight=0.5", "--epochs=1"]
    done = train(pictures, tmp_path / "straight", *flags)
    assert done.returncode == 0, done.stderr
    assert "teacher   mnasnet0_5, initialised; learns, too; dml loss" in done.stdout
    process = start(pictures, tmp_path / "stopped", *flags, "--print-freq=1")
    wait_for(process, "[Epoch 0, iter: 2]")
    process.terminate()
    process.communicate(timeout=100)
    again = train(pictures, tmp_path / "stopped", "--resume=auto")
    assert again.returncode == 0, again.stderr
    assert same_weights(*(tmp_path / f"{run}/model_0.pdparams" for run in ("straight", "stopped")))


def test_a_dry_run_does_not_download_the_teacher(pictures, tmp_path):
    wnids = {"blue": "n01440764", "green": "n01443537", "red": "n02012849"}
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for name, wnid in wnids.items():
            (tmp_path / "data" / split / wnid).symlink_to(pictures / split / name)
    flags = ["--teacher=mnasnet0_5", "--teacher-pretrained=torchvision_v1", "--dry-run"]
    done = train(tmp_path / "data", tmp_path / "out", *flags)
    assert done.returncode == 0, done.stderr
    assert "not downloaded in a dry run" in done.stdout
    assert "3 of the 1000 classes of the teacher mnasnet0_5, by name" in done.stdout
    other = train(pictures, tmp_path / "out", *flags)
    assert other.returncode == 2 and "only in the student: blue, green, red" in other.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_teachers_are_named(straight, pictures, tmp_path):
    weights_file = f"{straight[0]}/best.pdparams"
    other = train(
        pictures, tmp_path, "--teacher=mnasnet0_5", f"--teacher-pretrained={weights_file}"
    )
    assert other.returncode == 2 and "holds mobilenet_v3_small" in other.stderr
    shutil.rmtree(tmp_path)
