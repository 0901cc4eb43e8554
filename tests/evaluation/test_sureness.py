"""What a confidence is worth: equal to a plain evaluation on whole arrays, for our networks and published ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from subgrid.columns.variables import offsets, variable_set
from subgrid.emulator import FlatEmulator, PublishedEmulator, save_emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.evaluation import EvaluateConfig, evaluate
from subgrid.evaluation.confidence import confidence_of
from subgrid.evaluation.sureness import confidence_scores
from subgrid.scores.sureness import KEPT


class Told(nn.Module):
    """A network that always answers 0, and tells as its confidence what it is asked to of the column."""

    def __init__(self, network, knows):
        super().__init__()
        self.shape, self.knows = network.shape, knows

    def forward(self, p, s):
        profiles = p.new_zeros(len(p), self.shape.levels, 2 * self.shape.profiles_out)
        scalars = s.new_zeros(len(s), 2 * self.shape.scalars_out)
        told = self.knows(p, s)
        profiles[..., self.shape.profiles_out :] = told[:, None, None]
        scalars[:, self.shape.scalars_out :] = told[:, None]
        return profiles, scalars


@pytest.fixture(scope="module")
def whole(tiny_store):
    """Inputs and targets of the test split, whole, and which targets vary in training."""
    test, held = tiny_store["test"], tiny_store.variable_set("speedy")
    x, y = (
        np.concatenate([test.read_variables(v, b) for b in range(test.blocks)]) for v in (held.inputs, held.targets)
    )
    train = tiny_store["train"].variable_statistics(held.targets)
    return x, y.astype(np.float64), train["mean"], train["std"], train["std"] > 1e-5 * abs(train["mean"])


def test_the_rank_correlation_by_hand(make_emulator, tiny_store, whole):
    emulator = make_emulator(confidence=True, positive_water=False)
    emulator.network = Told(emulator.network, lambda p, s: s[:, 1])  # insolation
    found = confidence_scores(emulator, tiny_store["test"])
    x, y, mean, std, live = whole
    error = ((y - mean) / np.where(live, std, 1.0))[:, live]
    wanted = [spearmanr(x[:, 33], error[:, k] ** 2).statistic for k in range(error.shape[1])]
    ranks = found["rank_correlation"]
    assert ranks["channels"] == pytest.approx(np.mean(wanted), abs=2e-3)
    told = np.repeat(x[:, 33:34], error.shape[1], axis=1)
    assert ranks["pooled"] == pytest.approx(spearmanr(told.ravel(), error.ravel() ** 2).statistic, abs=2e-3)
    assert ranks["columns"] == pytest.approx(spearmanr(x[:, 33], (error**2).mean(axis=1)).statistic, abs=2e-3)
    levels = [v for entry in found["variables"].values() for v in entry["rank_correlation_level"]]
    assert [v is not None for v in levels] == live.tolist()  # what does not vary takes no part
    np.testing.assert_allclose([v for v in levels if v is not None], wanted, atol=2e-3)


def test_skill_on_the_surest_rows_by_hand(make_emulator, tiny_store, whole):
    emulator = make_emulator(confidence=True, positive_water=False)
    emulator.network = Told(emulator.network, lambda p, s: s[:, 1])
    found = confidence_scores(emulator, tiny_store["test"])["variables"]["outgoing_longwave"]
    x, y, mean, *_ = whole
    k = offsets(emulator.variables.targets, 8)["outgoing_longwave"].start
    truth, error = y[:, k], mean[k] - y[:, k]
    surest = np.argsort(x[:, 33], kind="stable")
    for share in (1.0, 0.5, 0.1):
        kept, at = surest[: round(share * len(x))], KEPT.index(share)
        r2 = 1 - (error[kept] ** 2).sum() / ((truth[kept] - truth[kept].mean()) ** 2).sum()
        assert found["r2_kept"][at] == pytest.approx(r2, abs=1e-3)
        assert found["mse_kept"][at] == pytest.approx((error[kept] ** 2).mean() / (error**2).mean(), rel=1e-3)
    best = np.sort(error**2)[: round(0.1 * len(x))].mean() / (error**2).mean()
    assert found["mse_best_kept"][-1] == pytest.approx(best, rel=1e-3)


def test_a_confidence_of_noise_is_worth_nothing(make_emulator, tiny_store):
    emulator = make_emulator(confidence=True)
    torch.manual_seed(0)
    emulator.network = Told(emulator.network, lambda p, s: torch.rand(len(p)))
    ranks = confidence_scores(emulator, tiny_store["test"])["rank_correlation"]
    assert all(abs(ranks[name]) < 0.1 for name in ("channels", "pooled", "columns"))
    assert ranks["expected"] > 0.3  # if it were true it would show


def test_it_looks_evenly_at_so_many_rows(make_emulator, tiny_store):
    emulator = make_emulator(confidence=True)
    assert confidence_scores(emulator, tiny_store["test"], rows=100)["rows"] == 88  # every sixth of 256, 256 and 8
    assert confidence_scores(emulator, tiny_store["test"])["rows"] == 520


def test_rows_that_are_not_finite_are_counted_and_left_out(make_emulator, tiny_store):
    emulator = make_emulator(confidence=True)
    emulator.network = Told(emulator.network, lambda p, s: torch.where(s[:, 1] > 0, s[:, 1], torch.nan))
    found = confidence_scores(emulator, tiny_store["test"])
    assert 0 < found["n_nonfinite"] < 520 and found["rows"] + found["n_nonfinite"] == 520
    emulator.network = Told(emulator.network, lambda p, s: s[:, 1] * torch.nan)
    found = confidence_scores(emulator, tiny_store["test"])
    assert found["rows"] == 0 and found["rank_correlation"]["channels"] is None
    assert found["variables"]["outgoing_longwave"]["r2_kept"] is None


def test_no_confidence_is_told(tiny_emulator, tiny_store):
    assert confidence_scores(tiny_emulator, tiny_store["test"]) is None


def test_evaluate_scores_the_confidence_of_our_own_networks(make_emulator, tiny_store, tmp_path):
    emulator = make_emulator(confidence=True)
    found = confidence_of(emulator)
    x = np.random.default_rng(0).standard_normal((3, FlatEmulator(emulator).n_in)).astype(np.float32)
    with torch.inference_mode():
        wanted = flatten(*emulator.confidence(*unflatten(torch.from_numpy(x), 4, 8)))
    np.testing.assert_array_equal(found.predict(x), wanted.double().numpy())
    assert found.variables == emulator.variables.targets and len(found.unit) == found.width
    save_emulator(emulator, tmp_path / "run")
    scores = evaluate(EvaluateConfig(str(tmp_path / "run"), str(tiny_store.path)), tmp_path / "out")
    assert scores["confidence"] == confidence_scores(emulator, tiny_store["test"]) and scores["members"] is None


def test_a_published_network_is_scored_by_the_same(whole_climsim, tmp_path):
    """Its cloud water is the sum of the liquid and ice that it gives."""
    store = whole_climsim("v2_rh").store
    split, held = store["scoring"], variable_set("v2_rh")
    levels, targets = store.grid.levels, variable_set("v2_rh_mc").targets
    width = sum(v.width(levels) for v in targets)

    class Network(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.zeros_like(x[:, :1]).repeat(1, 6 * 6 + 8), x[:, :1].repeat(1, 5 * 6 + 8)], dim=1)

    order = torch.arange(sum(v.width(levels) for v in held.inputs))
    module = torch.jit.script(Network())
    emulator = PublishedEmulator(
        module, held, order, store.grid.vertical, levels, 1200.0, tmp_path / "x.pt", "v2_rh_mc"
    )
    found = confidence_scores(emulator, split)
    assert list(found["variables"]) == [v.name for v in targets] and width == 38
    x, y = (
        np.concatenate([split.read_variables(v, b) for b in range(split.blocks)]) for v in (held.inputs, held.targets)
    )
    place = offsets(held.targets, levels)
    cloud = y[:, place["ptend_q0002"]].astype(np.float64) + y[:, place["ptend_q0003"]]
    ranks = found["variables"]["ptend_qn"]["rank_correlation_level"]
    assert ranks[0] is None  # dry
    np.testing.assert_allclose(
        ranks[1:], [spearmanr(x[:, 0], cloud[:, k] ** 2).statistic for k in range(1, 6)], atol=1e-9
    )
