"""Fitting learns, repeats, stops in time, and continues from any checkpoint as if it had never stopped."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from platformops.apps.load import load_app
from platformops.clock import ManualClock
from platformops.errors import AppError, ArtifactCorrupt, PlatformError
from platformops.frameworks.torch import EpochReport, World, fit
from platformops.spec.types import TrainSpec

APP = load_app("image", Path("."))
SETTINGS = TrainSpec(epochs=4, batch_size=32, lr=0.05, precision="float32", label_smoothing=0.1, seed=7)


def run(dataset, params, settings=SETTINGS, app=APP, clock=None, **options):
    return fit(app, dataset, params, settings, clock=clock or ManualClock(), **options)


def with_options(params, model="small_cnn", **options):
    return dataclasses.replace(params, model=model, options=options)


def weights(fitted):
    return fitted.model.state_dict()


def equal(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Stopper:
    """Asks to stop at the n-th time it is asked; the clock moves so that it is asked at every step."""

    def __init__(self, clock: ManualClock, at: int) -> None:
        self.clock, self.at, self.asked = clock, at, 0

    def __call__(self) -> bool:
        self.asked += 1
        self.clock.sleep(2.0)
        return self.asked == self.at


@pytest.mark.parametrize(
    ("model", "options", "lr"),
    [
        ("small_cnn", {"width": 8, "dropout": 0.1}, 0.05),
        ("resnet9", {"width": 8, "deep": 16, "bias_rate": 16, "averaging": "lookahead"}, 0.3),
        ("resnet9", {"width": 8, "deep": 16, "flip": True, "averaging": "ema"}, 0.3),
    ],
)
def test_every_network_learns(dataset, params, model, options, lr):
    settings = SETTINGS.model_copy(update={"lr": lr, "epochs": 8})
    fitted = run(dataset, with_options(params, model, **options), settings)
    assert fitted.finished
    assert fitted.history[-1].accuracy > 0.9
    assert fitted.history[-1].loss < fitted.history[0].loss
    assert not fitted.model.training


def test_adamw_learns(dataset, params):
    settings = SETTINGS.model_copy(update={"optimizer": "adamw", "lr": 0.01, "epochs": 6})
    assert run(dataset, params, settings).history[-1].accuracy > 0.9


def test_a_torchvision_network_runs(dataset, params):
    settings = SETTINGS.model_copy(update={"epochs": 1})
    fitted = run(dataset, with_options(params, "torchvision:shufflenet_v2_x0_5"), settings)
    assert math.isfinite(fitted.history[0].loss)


def test_bfloat16_learns_as_well(dataset, params):
    assert run(dataset, params, SETTINGS.model_copy(update={"precision": "bfloat16"})).history[-1].accuracy > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(dataset, params):
    first, again = run(dataset, params), run(dataset, params)
    other = run(dataset, params, SETTINGS.model_copy(update={"seed": 8}))
    assert equal(weights(first), weights(again))
    assert not equal(weights(first), weights(other))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 3, 6, 9, 14])
def test_continuing_from_a_checkpoint_equals_not_having_stopped(dataset, params, tmp_path, optimizer, stop_at):
    options = with_options(params, width=8, dropout=0.2, averaging="lookahead")
    settings = SETTINGS.model_copy(update={"optimizer": optimizer, "epochs": 3, "lr": 0.01})
    whole = run(dataset, options, settings)
    clock = ManualClock()
    stopped = run(
        dataset, options, settings, clock=clock, should_stop=Stopper(clock, stop_at),
        save_checkpoint=lambda checkpoint: checkpoint.write(tmp_path),
    )  # fmt: skip
    assert not stopped.finished
    resumed = run(dataset, options, settings, resume=tmp_path)
    assert resumed.finished
    assert equal(weights(whole), weights(resumed))
    losses = [report.loss for report in whole.history]
    assert [report.loss for report in resumed.history] == losses


@pytest.mark.parametrize("due_at", [2, 5])
def test_continuing_from_a_checkpoint_within_an_epoch_equals_not_having_died(dataset, params, tmp_path, due_at):
    asked, written = iter(range(1, 1000)), []

    def save(checkpoint):
        if not written:
            checkpoint.write(tmp_path)
        written.append((checkpoint.epoch, checkpoint.step))

    settings = SETTINGS.model_copy(update={"epochs": 3})
    whole = run(dataset, params, settings, save_checkpoint=save, checkpoint_due=lambda: next(asked) == due_at)
    assert written == [(0, due_at), (3, 0)], "once when it was due, and at the end"
    assert equal(weights(whole), weights(run(dataset, params, settings, resume=tmp_path)))


def test_what_begins_is_told_before_it_does(dataset, params):
    sections = []
    settings = SETTINGS.model_copy(update={"epochs": 2})
    run(dataset, params, settings, on_section=sections.append, save_checkpoint=lambda _: sections.append("saved"))
    epoch = sections[: len(sections) // 2]
    assert sections == 2 * epoch
    assert epoch[-3:] == ["validation", "checkpoint", "saved"]
    assert set(epoch[:-3]) == {"step"}


def test_a_checkpoint_of_a_finished_training_gives_the_same_model_and_history(dataset, params, tmp_path):
    whole = run(dataset, params, save_checkpoint=lambda checkpoint: checkpoint.write(tmp_path))
    again = run(dataset, params, resume=tmp_path)
    assert equal(weights(whole), weights(again))
    assert again.history == whole.history


def test_a_checkpoint_holds_no_pickle_and_a_damaged_one_is_refused(dataset, params, tmp_path):
    run(dataset, params, save_checkpoint=lambda checkpoint: checkpoint.write(tmp_path))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    path = tmp_path / "training.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorrupt, match=r"training\.safetensors"):
        run(dataset, params, resume=tmp_path)


def test_each_epoch_is_reported_and_checkpointed_once(dataset, params):
    reports: list[EpochReport] = []
    epochs: list[int] = []
    run(dataset, params, on_epoch=reports.append, save_checkpoint=lambda checkpoint: epochs.append(checkpoint.epoch))
    assert [report.epoch for report in reports] == epochs == [1, 2, 3, 4]
    assert reports[-1].progress_ratio == 1.0
    assert reports[-1].lr < reports[0].lr


def test_training_ends_when_its_time_is_over_with_the_rate_at_its_end(dataset, params):
    clock = ManualClock()
    never = Stopper(clock, at=10**9)  # two seconds a step, six steps an epoch
    settings = SETTINGS.model_copy(update={"epochs": 1000, "time_limit_s": 30.0})
    fitted = run(dataset, params, settings, clock=clock, should_stop=never)
    assert fitted.finished
    assert len(fitted.history) == 3
    assert fitted.history[-1].progress_ratio == 1.0
    assert fitted.history[-1].lr == pytest.approx(0.02 * settings.lr)


def test_a_loss_that_is_no_number_ends_training_with_a_remedy(dataset, params):
    with pytest.raises(PlatformError, match=r"loss became nan in epoch 1, step 1(.|\n)*lower train.lr"):
        run(dataset, params, app=dataclasses.replace(APP, build_model=lambda _: Broken()))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), math.nan))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.float().mean(dim=(1, 2, 3), keepdim=False)[:, None] * self.weight


def test_a_model_of_the_users_own_is_fitted_and_gets_only_its_own_options(dataset, params):
    seen = []

    def build_model(given):
        seen.append(given)
        return nn.Sequential(Flat(), nn.Linear(8 * 8 * 3, len(given.classes)))

    own = with_options(params, "own", depth=3, momentum=0.5)
    fitted = run(dataset, own, app=dataclasses.replace(APP, build_model=build_model))
    assert fitted.history[-1].accuracy > 0.5
    assert seen[0].options == {"depth": 3}


class Flat(nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.float().flatten(1) / 255


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("small_cn", {}, "did you mean 'small_cnn'"),
        ("torchvision:resnet81", {}, "did you mean 'resnet18'"),
        ("own", {}, "write build_model in app.py"),
        ("small_cnn", {"depth": 3}, "train.params.depth: small_cnn has no such option"),
        ("small_cnn", {"width": 0}, "train.params.width: a whole number"),
        ("small_cnn", {"width": True}, "train.params.width: a whole number"),
        ("small_cnn", {"dropout": 1.0}, "train.params.dropout: a number"),
        ("small_cnn", {"averaging": "mean"}, "train.params.averaging: one of"),
        ("small_cnn", {"momentum": 1.5}, "train.params.momentum: from 0 to below 1"),
        ("small_cnn", {"warmup": "x"}, "train.params.warmup: a number"),
    ],
)
def test_a_wrong_model_or_option_is_refused_by_name(dataset, params, model, options, message):
    with pytest.raises(AppError, match=message.replace("(", r"\(")):
        run(dataset, with_options(params, model, **options))


def test_an_empty_training_split_is_refused(dataset, params):
    nothing = dataclasses.replace(dataset.splits["train"], images=EmptyRows())
    with pytest.raises(PlatformError, match="training split is empty"):
        run(dataclasses.replace(dataset, splits={**dataset.splits, "train": nothing}), params)


class EmptyRows:
    def __len__(self) -> int:
        return 0


def test_without_a_validation_split_accuracy_is_unknown(dataset, params):
    splits = {name: split for name, split in dataset.splits.items() if name != "validation"}
    assert run(dataclasses.replace(dataset, splits=splits), params).history[-1].accuracy is None


def test_ranks_share_each_batch_between_them(dataset):
    from platformops.frameworks.torch_batches import Batches

    whole = Batches(APP, dataset, 32, 0, World())
    halves = [Batches(APP, dataset, 32, 0, World(rank, 2)) for rank in (0, 1)]
    order = whole.order(3)
    assert all((half.order(3) == order).all() for half in halves)
    labels = [half.load(order, 3, 1)[1].tolist() for half in halves]
    assert sorted(labels[0] + labels[1]) == sorted(whole.load(order, 3, 1)[1].tolist())
