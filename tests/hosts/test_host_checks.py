"""An emulator that does not fit a host is refused before anything is compiled, saying what differs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from subgrid.base.errors import UsageError
from subgrid.columns import VariableSet, variable_set
from subgrid.emulator import EmulatorConfig, build_emulator
from subgrid.hosts.base import check_fits, fitting_sets, host, host_names
from subgrid.hosts.speedy.processes import GROUPS, PROCESSES
from subgrid.physics.vertical import VerticalGrid


@dataclass
class FakeHost:
    """What :func:`check_fits` looks at."""

    grid: Any
    variables: VariableSet
    time_step: float = 2400.0
    name: str = "fake"
    processes: Any = field(default_factory=lambda: dict(PROCESSES))
    groups: Any = field(default_factory=lambda: GROUPS)


@pytest.fixture
def fake(column_grid):
    return FakeHost(column_grid, variable_set("speedy_expanded"))


@pytest.mark.parametrize("variables", ["speedy", "speedy_expanded"])
def test_an_emulator_made_for_the_host_fits(fake, make_emulator, variables):
    check_fits(make_emulator(variables=variables), fake)


def test_another_number_of_levels_is_refused(fake, column_grid, tiny_emulator):
    fake.grid = replace(column_grid, vertical=VerticalGrid.sigma((0.0, 0.2, 0.5, 0.8, 1.0)))
    with pytest.raises(UsageError, match=r"emulator has 8 levels, host 'fake' has 4.*train on a store of this host"):
        check_fits(tiny_emulator, fake)


def test_other_level_boundaries_are_refused_with_both(fake, column_grid, tiny_emulator):
    boundaries = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.77, 0.9, 1.0)
    fake.grid = replace(column_grid, vertical=VerticalGrid.sigma(boundaries))
    with pytest.raises(UsageError, match=r"level boundaries \[0.0, 0.05, .*'fake' \[0.0, 0.1, 0.2,"):
        check_fits(tiny_emulator, fake)


def test_rounding_of_boundaries_is_no_difference(fake, column_grid, tiny_emulator):
    boundaries = [b + (1e-8 if 0 < b < 1 else 0.0) for b in column_grid.vertical.hybi]
    fake.grid = replace(column_grid, vertical=VerticalGrid.sigma(boundaries))
    check_fits(tiny_emulator, fake)


def test_another_time_step_is_refused_with_both(fake, tiny_emulator):
    fake.time_step = 1800.0
    with pytest.raises(UsageError, match="for a step of 2400 s, host 'fake' steps by 1800 s"):
        check_fits(tiny_emulator, fake)


def test_inputs_that_the_host_does_not_supply_are_named(fake, make_emulator):
    fake.variables = variable_set("speedy")
    with pytest.raises(UsageError, match=r"'speedy_expanded' does not fit .* reads temperature_prvphy, .*clat, slat"):
        check_fits(make_emulator(variables="speedy_expanded"), fake)


def test_outputs_that_the_host_needs_are_named(fake, tiny_emulator):
    fake.processes["surface"] = (*PROCESSES["surface"], "snowfall")
    with pytest.raises(UsageError, match="does not predict snowfall; sets that fit"):
        check_fits(tiny_emulator, fake)


def test_both_are_named_at_once(fake, tiny_emulator):
    held = variable_set("speedy")
    fewer = tuple(v for v in held.inputs if v.name != "albedo")
    fake.variables = VariableSet("odd", fewer, held.targets)
    fake.processes["surface"] = (*PROCESSES["surface"], "snowfall")
    with pytest.raises(UsageError, match="reads albedo, which the host does not supply and does not predict snowfall"):
        check_fits(tiny_emulator, fake)


ALL = frozenset(PROCESSES)


@pytest.mark.parametrize(
    ("variables", "replaced"),
    [
        ("speedy", ALL),
        ("speedy_expanded", ALL),
        ("speedy_keep_diffusion", ALL - {"diffusion"}),
        ("speedy_convection_condensation", {"convection", "condensation"}),
        ("speedy_radiation", {"shortwave", "longwave"}),
        ("speedy_surface", {"surface"}),
        ("speedy_diffusion", {"diffusion"}),
    ],
)
def test_an_emulator_replaces_what_its_targets_stand_for(fake, column_grid, variables, replaced):
    chosen = variable_set(variables)
    settings = EmulatorConfig.from_dict(chosen.emulator)
    emulator = build_emulator("mlp", chosen, column_grid.vertical, fake.time_step, settings)
    assert check_fits(emulator, fake) == replaced
    assert variables in fitting_sets(fake, frozenset(replaced))
    for word in ("all", "radiation", "convection_condensation"):
        means = {"all": ALL, "radiation": {"shortwave", "longwave"}}.get(word, {"convection", "condensation"})
        if means == replaced:
            assert check_fits(emulator, fake, word) == replaced
        else:
            with pytest.raises(UsageError, match=f"couple.replace={word} means .*leave couple.replace out"):
                check_fits(emulator, fake, word)


def test_an_unknown_process_is_refused(fake, tiny_emulator):
    with pytest.raises(UsageError, match=r"unknown couple\.replace 'convektion'; did you mean convection"):
        check_fits(tiny_emulator, fake, "convektion")


def test_an_unknown_host_gives_the_nearest():
    assert "speedy" in host_names()
    with pytest.raises(UsageError, match="unknown host 'speddy'; did you mean speedy"):
        host("speddy")
