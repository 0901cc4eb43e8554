"""Entry points: listed unseen, imported on demand, and a broken one harms nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from subgrid.base import plugins
from subgrid.base.errors import SubgridError, UsageError
from subgrid.cli.verbs import generate_settings, train_settings
from subgrid.columns import variable_set, variable_set_names
from subgrid.hosts import base as hosts
from subgrid.training.recipes import base as recipes


def _refuses():
    raise ImportError("no module named zap")


@pytest.fixture
def offer(monkeypatch):
    """``offer(load=..., value=...)``: every group offers ``theirs``."""
    monkeypatch.setattr(hosts, "_HOSTS", dict(hosts._HOSTS))
    monkeypatch.setattr(recipes, "_RECIPES", dict(recipes._RECIPES))

    def add(load=_refuses, value="their.module", name="theirs"):
        point = SimpleNamespace(name=name, value=value, load=load)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [point])

    return add


def test_offers_are_listed_without_importing_them(offer):
    offer()
    for names in (hosts.host_names(), recipes.recipe_names(), variable_set_names()):
        assert "theirs" in names and len(names) > 1


@pytest.mark.parametrize(
    ("kind", "ask"), [("host", hosts.host), ("recipe", recipes.recipe), ("variable set", variable_set)]
)
def test_a_broken_offer_is_named_and_spares_the_others(offer, kind, ask):
    offer(value="their_missing_module")
    with pytest.raises(SubgridError, match=f"{kind} 'theirs': importing their_missing_module failed") as caught:
        ask("theirs")
    assert not isinstance(caught.value, UsageError)
    assert train_settings(["data=x", "out=y", "variables=speedy"])[0].recipe == "standard"
    assert generate_settings(["out=y"])[0] == "speedy"


@pytest.mark.parametrize(("kind", "ask"), [("host", hosts.host), ("recipe", recipes.recipe)])
def test_an_offer_that_registers_nothing_is_refused(offer, kind, ask):
    offer(load=lambda: None)
    with pytest.raises(SubgridError, match=f"{kind} 'theirs': their.module imported, but does not register it"):
        ask("theirs")


def test_a_package_without_the_yaml_that_it_announces_is_refused(offer):
    offer(value="subgrid.base")
    with pytest.raises(SubgridError, match=r"package subgrid\.base has no theirs\.yaml"):
        variable_set("theirs")


def test_our_own_name_is_not_replaced(offer):
    offer(name="standard")
    assert recipes.recipe("standard").config.epochs > 0


def test_settings_of_another_packages_host_reach_the_command_line(offer):
    @dataclass(frozen=True)
    class Settings:
        members: int = 3

    def load():
        hosts.register("theirs", Settings)(lambda **settings: SimpleNamespace(name="theirs", **settings))

    offer(load=load)
    name, out, settings, _ = generate_settings(["host=theirs", "out=y", "host.members=5"])
    assert (name, out, settings) == ("theirs", "y", {"members": 5})
    assert hosts.host("theirs", members=4).members == 4
    with pytest.raises(UsageError, match=r"unknown option 'host.member'; did you mean host.members"):
        generate_settings(["host=theirs", "out=y", "host.member=5"])


def test_wrong_settings_and_taken_names_of_hosts_are_refused():
    with pytest.raises(UsageError, match="unknown setting of host 'speedy' 'truncatoin'; did you mean truncation"):
        hosts.host("speedy", truncatoin=21)
    with pytest.raises(SubgridError, match="host 'speedy' is registered twice"):
        hosts.register("speedy", hosts.SpeedyConfig)(lambda **settings: None)
