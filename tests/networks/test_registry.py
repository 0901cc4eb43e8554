from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from subgrid import networks
from subgrid.base import plugins
from subgrid.base.errors import SubgridError, UsageError
from subgrid.networks import registry

SHAPE = networks.NetworkShape(8, 4, 16, 4, 13)


@dataclass(frozen=True)
class GainConfig:
    gain: float = 2.0


class Gain(networks.Network):
    def __init__(self, shape, config):
        super().__init__(shape, config)
        self.gain = config.gain

    def forward(self, profiles, scalars):
        return profiles * self.gain, scalars


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Each test gets its own copy, so that what it registers goes away."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


def offer(monkeypatch, name, load):
    point = SimpleNamespace(name=name, value="their.module", load=load)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])


def test_importing_the_package_registers_mlp_and_unet():
    assert {"mlp", "unet"} <= set(networks.names())
    assert networks.sizes("mlp") == networks.sizes("unet") == ["small", "paper"]


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_build_from_hyperparameters_gives_the_same_module(name):
    torch.manual_seed(1)
    first = networks.build(name, SHAPE, "small", dropout=0.25)
    torch.manual_seed(1)
    again = networks.build(first.architecture, first.shape, **first.hyperparameters)
    assert first.hyperparameters == again.hyperparameters == networks.resolve(name, dropout=0.25)
    assert str(first) == str(again)
    for (name_1, value_1), (name_2, value_2) in zip(
        first.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name_1 == name_2
        assert torch.equal(value_1, value_2)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (("unett", "small", {}), "unknown architecture 'unett'; did you mean unet"),
        (("unet", "papr", {}), "unknown size of architecture 'unet' 'papr'; did you mean paper"),
        (
            ("unet", "small", {"chanels": 8}),
            "unknown setting of architecture 'unet' 'chanels'; did you mean chan",
        ),
        (("unet", "small", {"channels": "8"}), "unet.channels takes a value of type int"),
        (("unet", "small", {"channels": True}), "unet.channels takes a value of type int"),
        (("unet", "small", {"multipliers": 2}), "unet.multipliers takes a list"),
        (("unet", "small", {"multipliers": [1, 1.5]}), r"unet.multipliers\[1\] takes a value of type int"),
        (("mlp", "small", {"residual": 1}), "mlp.residual takes a value of type bool"),
        (("mlp", "small", {"activation": "gelo"}), "unknown mlp.activation 'gelo'; did you mean gelu"),
    ],
)
def test_wrong_requests_name_the_nearest_valid(request_, complaint):
    name, size, overrides = request_
    with pytest.raises(UsageError, match=complaint):
        networks.build(name, SHAPE, size, **overrides)


def test_whole_numbers_pass_as_floats_and_lists_as_tuples():
    assert networks.resolve("mlp", dropout=0, widths=[7]) == {
        **networks.resolve("mlp"),
        "dropout": 0.0,
        "widths": [7],
    }


def test_own_architecture_by_decorator():
    networks.architecture("gain", unit=GainConfig(1.0), double=GainConfig())(Gain)
    network = networks.build("gain", networks.NetworkShape(4, 1, 1, 1, 1), "double", gain=3)
    assert "gain" in networks.names()
    assert network(torch.ones(1, 4, 1), torch.ones(1, 1))[0].unique().tolist() == [3.0]


def test_a_taken_name_or_a_missing_config_is_refused_but_a_reload_is_not():
    with pytest.raises(SubgridError, match="'unet' is registered twice"):
        networks.architecture("unet", small=GainConfig())(Gain)
    with pytest.raises(SubgridError, match="declares no size"):
        networks.architecture("gain")
    with pytest.raises(SubgridError, match="not a dataclass instance"):
        networks.architecture("gain", small=GainConfig)
    networks.architecture("gain", small=GainConfig())(Gain)
    networks.architecture("gain", small=GainConfig(5.0))(Gain)
    assert networks.resolve("gain") == {"gain": 5.0}


def test_entry_points_are_listed_and_imported_only_when_asked_for(monkeypatch):
    loads = []

    def load():
        loads.append(1)
        networks.architecture("gain", small=GainConfig())(Gain)

    offer(monkeypatch, "gain", load)
    assert "gain" in networks.names() and networks.names() == sorted(networks.names())
    assert loads == []
    assert networks.sizes("gain") == ["small"]
    assert networks.resolve("gain") == {"gain": 2.0}
    assert loads == [1]


def test_a_broken_entry_point_says_which_and_spares_the_others(monkeypatch):
    def load():
        raise ImportError("no module named zap")

    offer(monkeypatch, "gain", load)
    assert networks.sizes("mlp")
    with pytest.raises(SubgridError, match=r"'gain': importing their.module failed: no module named zap"):
        networks.build("gain", SHAPE)


def test_an_entry_point_that_registers_nothing_is_refused(monkeypatch):
    offer(monkeypatch, "gain", lambda: None)
    with pytest.raises(SubgridError, match="does not register it"):
        networks.sizes("gain")
