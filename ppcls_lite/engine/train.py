"""The training loop: fit -> train_one_epoch -> optimizer step, top to bottom."""

import math
import signal
import time
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.data.loader import Batch
from ppcls_lite.data.mixing import prepare
from ppcls_lite.engine import checkpoint
from ppcls_lite.engine.counts import Counts, counts, judged
from ppcls_lite.engine.distributed import average_gradients, share_statistics, sum_over_ranks
from ppcls_lite.engine.freezing import training_mode
from ppcls_lite.engine.leaving import saved
from ppcls_lite.engine.length import counted, fix_length, goes_on, schedule_epoch, timed
from ppcls_lite.engine.meter import LogMeter
from ppcls_lite.engine.mutual import MutualStudent
from ppcls_lite.engine.prospects import after_epoch
from ppcls_lite.engine.run import Diverged, Run
from ppcls_lite.engine.signals import Stopped
from ppcls_lite.engine.statistics import evaluate_both
from ppcls_lite.loss import multi_label_loss, training_loss
from ppcls_lite.optimizer.ema import ema_start
from ppcls_lite.optimizer.optimizers import named_state
from ppcls_lite.optimizer.schedule import lr_at
from ppcls_lite.report import write_confusion_matrix


def fit(run: Run) -> float:
    """Trains until `epochs` are done, evaluating and saving after each; returns the best score.

    Raises:
        Stopped: after a signal; `latest` holds the exact place to go on from.
        UserError, OSError: pictures or disks failed; so does it then, unless the log says why not.
        Diverged: the loss became NaN or infinite; checkpoints are older than that.
    """
    begin = time.perf_counter()
    while goes_on(run):
        if run.config.fit_head and run.config.epochs and run.progress.best_score is None:
            with saved(run, partial(save, run)), counted(run.progress):
                keep_fitted(run)
        with saved(run, partial(save, run)), timed(run.progress) as seconds:
            trained = train_one_epoch(run) if run.config.epochs else counts(run.info)
            before = seconds()
            accuracy = evaluate(run)
            fix_length(run, seconds(), seconds() - before)
            finish_epoch(run, accuracy)
        for line in after_epoch(run, trained, accuracy):
            run.log.line(line)
    run.log.line(f"Training time {timedelta(seconds=int(time.perf_counter() - begin))}")
    return run.progress.best_score or 0.0


def evaluate(run: Run) -> Counts:
    """Evaluates the model, or its moving average, after all ranks have the same statistics."""
    share_statistics(run.model.state_dict(), run.world, run.config.dist_bn)
    if run.ema is None:
        return evaluate_both(run, run.evaluate)
    share_statistics(run.ema.average, run.world, run.config.dist_bn)
    run.log.line("Test: of the moving average (--model-ema), which is what a checkpoint holds")
    with run.ema.in_place():
        return run.evaluate()


def keep_fitted(run: Run) -> None:
    """Evaluates what the fit of the last layer gave: the best until an epoch is as good."""
    accuracy = evaluate(run)
    run.progress.best_score = accuracy.score(run.config.best_metric)
    run.log.line(f"[Fitted last layer] val {in_words(accuracy.values())}")
    if run.world.is_main:
        save(run, run.folder / "best.pdparams", accuracy)


def train_one_epoch(run: Run) -> Counts:
    """Trains from where `run.progress` stands to the end of its epoch; returns its counts."""
    progress, batches = run.progress, len(run.loader)
    meter = LogMeter(run)
    training_mode(run.model, run.config)
    with run.log.progress(f"Epoch {progress.epoch}", batches) as bar, meter.shown_at_end(bar):
        for batch in run.loader.epoch(progress.epoch, start_batch=progress.batch):
            meter.batch_arrived()
            loss, logits, stepped = train_batch(run, batch)
            meter.add(loss, logits, batch.labels)
            if progress.batch % run.config.print_freq == 0 or progress.batch == batches:
                meter.flush(bar)
            if stepped and (asked := stop_asked(run)):
                raise Stopped(asked)
            if stepped and run.save_every.due(progress.step) and run.world.is_main:
                meter.flush(bar)  # a loss that is no number must not be saved as a good state
                save(run, run.folder / "latest.pdparams")
    return meter.epoch


def train_batch(run: Run, batch: Batch) -> tuple[paddle.Tensor, paddle.Tensor, bool]:
    """Forward, backward and, at the end of an accumulation group, the optimizer step.

    Returns:
        The loss (0-D), the logits [N, K], and whether the optimizer stepped.
    """
    config, progress = run.config, run.progress
    first = progress.batch - progress.batch % config.gradient_accumulation_steps
    group = min(config.gradient_accumulation_steps, len(run.loader) - first)
    is_step = progress.batch + 1 == first + group
    if progress.batch == first:
        run.group.begin(first, group, *run.models)
    # Dropout's draws follow from the position in the run, so a resumed run repeats them.
    rng_key = (progress.seed, progress.epoch, progress.batch, run.world.rank)
    paddle.seed(int(np.random.SeedSequence(rng_key).generate_state(1)[0]))

    epochs_done = progress.epoch + first / len(run.loader)
    epoch = schedule_epoch(epochs_done, config, progress)
    run.optimizer.set_lr(lr_at(epoch, config.epochs, config, run.peak_lr))
    images, targets, teacher_logits = inputs(run, batch)
    # On GPUs the processes average their gradients as they come, on a CPU at the end.
    as_they_come = isinstance(run.parallel, paddle.DataParallel)
    with run.parallel.no_sync() if as_they_come and not is_step else nullcontext():
        with paddle.amp.auto_cast(enable=run.scaler.is_enable(), level=config.amp_level):
            logits = run.parallel(images)  # [N, K]
            if run.info.multi_label:
                positives = run.balance.positives
                loss = multi_label_loss(logits, targets, config.label_smoothing, positives)
            else:
                loss = training_loss(run.balance.logits(logits), targets, teacher_logits, config)
        run.scaler.scale(loss / group).backward()
    if is_step:
        if run.world.size > 1 and not as_they_come:
            average_gradients(run.model, run.world)
        if config.clip_grad_norm:
            # Paddle's own clipping in the optimizer takes each parameter group for itself.
            run.scaler.unscale_(run.optimizer)
            trained = [p for p in run.model.parameters() if not p.stop_gradient]
            paddle.nn.utils.clip_grad_norm_(trained, config.clip_grad_norm)
        run.scaler.step(run.optimizer)
        if isinstance(run.teacher, MutualStudent):
            run.teacher.step(run.scaler, run.optimizer.get_lr())
        run.scaler.update()
        run.optimizer.clear_grad(set_to_zero=False)
        progress.step += 1
        step_of_epoch = first // config.gradient_accumulation_steps
        if run.ema and step_of_epoch % config.model_ema_steps == 0:
            run.ema.update(restart=progress.epoch < ema_start(config))
    progress.batch += 1
    return loss, logits, is_step


def inputs(run: Run, batch: Batch) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor | None]:
    """Returns normalised images [N, 3, H, W], targets [N, K], and the teacher's logits [N, K]."""
    rng_key = (run.progress.seed, run.progress.epoch, run.progress.batch, run.world.rank)
    images, targets, mix = prepare(
        batch.images, batch.labels, run.info.preprocess, run.info.num_classes, run.config, rng_key
    )
    teacher_logits = run.teacher.logits(batch.images, mix) if run.teacher else None
    targets = run.balance.targets(targets)
    return paddle.to_tensor(images), paddle.to_tensor(targets), teacher_logits


def stop_asked(run: Run) -> int:
    """Returns the number of the signal that asks to stop, the same on every rank; 0 for none.

    Several ranks have to agree, which costs a small message. A GPU would have to wait for it at
    every step, so there they ask when a line is due.
    """
    asked = run.stop.signal or 0
    if run.world.size == 1:
        return asked
    every = 1 if run.world.device == "cpu" else run.config.print_freq
    if run.progress.step % every and run.progress.batch < len(run.loader):
        return 0
    anybody = sum_over_ranks(np.array([asked]), run.world)[0]
    return (asked or signal.SIGTERM) if anybody else 0


def finish_epoch(run: Run, accuracy: Counts) -> None:
    """Counts the epoch as done, records its evaluation and saves `model_<epoch>`, best, latest."""
    progress, done = run.progress, run.progress.epoch
    if not math.isfinite(accuracy.loss):
        raise Diverged(f"validation loss {accuracy.loss} after epoch {done}")
    metrics, before = metrics_of(run, accuracy), progress.best_score
    is_best = before is None or metrics["score"] >= before  # of equal ones the later
    if before is None or metrics["score"] > before or progress.gain_epoch < 0:
        progress.gain_epoch = done
    progress.epoch, progress.batch = done + 1, 0
    progress.seconds = progress.setup = 0.0
    progress.best_score = metrics["score"] if is_best else before
    run.log.record("eval", progress.step, {"epoch": done} | metrics | accuracy.summary())
    best = abs(progress.best_score or 0.0)
    run.log.line(
        f"[Epoch {done}] val {in_words(accuracy.values())}, best {run.score_name}: {best:.5f}"
    )
    if run.world.is_main:
        path = run.folder / f"model_{done}.pdparams"
        save(run, path, accuracy)
        if is_best:
            checkpoint.link_checkpoint(path, run.folder / "best.pdparams")
            if run.config.confusion_matrix:
                write_confusion_matrix(run.folder, accuracy, run.info)
        checkpoint.link_checkpoint(path, run.folder / "latest.pdparams")
        if run.config.keep_checkpoints:
            checkpoint.remove_checkpoint(
                run.folder / f"model_{done - run.config.keep_checkpoints}.pdparams"
            )


def metrics_of(run: Run, accuracy: Counts) -> dict[str, float]:
    """Returns what a checkpoint keeps of an evaluation; `score` is by --best-metric."""
    return accuracy.values() | {"score": accuracy.score(run.config.best_metric)}


def in_words(metrics: dict[str, float]) -> str:
    """Returns an evaluation's numbers as log lines have them."""
    return ", ".join(f"{name}: {value:.5f}" for name, value in metrics.items())


def save(run: Run, path: Path, accuracy: Counts | None = None) -> None:
    """Writes a checkpoint of the run as it stands, with what its evaluation gave; rank 0 only."""
    if run.scaler.is_enable():
        run.progress.loss_scale = float(run.scaler.state_dict()["scale"])
    params, optimizer = run.model.state_dict(), named_state(run.optimizer, run.model)
    if run.ema:
        optimizer |= checkpoint.as_trained(params)
        params = run.ema.average
    if isinstance(run.teacher, MutualStudent):
        optimizer |= {checkpoint.MUTUAL + key: value for key, value in run.teacher.state().items()}
    run.progress.ema_updates = run.ema.updates if run.ema else 0
    checkpoint.save_checkpoint(
        path,
        params,
        optimizer,
        judged(run.info, accuracy),
        run.progress,
        run.description | {"metrics": metrics_of(run, accuracy) if accuracy else {}},
    )
