"""Variable sets: what they hold, derived offsets, and clear refusals of names and files."""

from __future__ import annotations

import json

import pytest

from subgrid.base.errors import SubgridError, UsageError
from subgrid.columns import Variable, VariableSet, variable_set, variable_set_names, variables
from subgrid.columns.variables import channel_labels, offsets, quantities


def width(group, levels):
    return sum(v.width(levels) for v in group)


@pytest.mark.parametrize(
    ("name", "n_in", "n_out"),
    [("speedy", 4 * 8 + 13, 4 * 8 + 12), ("speedy_expanded", 20 * 8 + 15, 4 * 8 + 12)],
)
def test_channel_counts_on_eight_levels(name, n_in, n_out):
    held = variable_set(name)
    assert (n_in, n_out) in ((45, 44), (175, 44))
    assert (width(held.inputs, 8), width(held.targets, 8)) == (n_in, n_out)
    assert len(channel_labels(held.inputs, 8)) == len(set(channel_labels(held.inputs, 8))) == n_in


#: The published sets at 60 levels: inputs, outputs, and where surface pressure lies in the published flat order.
CLIMSIM = {
    "v1": (124, 128, 120),
    "v2": (557, 368, 360),
    "v2_rh": (557, 368, 540),
    "v2_rh_mc": (557, 308, 540),
    "v3": (737, 368, 720),
    "v4": (1525, 368, 1500),
    "v5": (1405, 308, 1380),
    "v6": (1399, 308, 1380),
}


@pytest.mark.parametrize("name", CLIMSIM)
def test_climsim_sets_have_the_published_widths_and_order(name):
    held = variable_set(name)
    n_in, n_out, pressure = CLIMSIM[name]
    assert (width(held.inputs, 60), width(held.targets, 60)) == (n_in, n_out)
    order = held.published_order(60)
    assert sorted(order) == list(range(n_in))
    assert channel_labels(held.inputs, 60)[order[pressure]] == "state_ps"
    assert held.physics.gravity == 9.80616
    assert quantities(held.inputs, 60)["surface_pressure"] == offsets(held.inputs, 60)["state_ps"]
    assert VariableSet.from_dict(json.loads(json.dumps(held.to_dict()))).physics == held.physics


def test_published_v2_has_its_scalars_before_the_gases():
    held = variable_set("v2")
    labels = [channel_labels(held.inputs, 60)[k] for k in held.published_order(60)]
    assert labels[360] == "state_ps" and labels[376] == "cam_in_SNOWHLAND" and labels[377] == "pbuf_ozone_0"


def test_names_are_listed():
    assert {"speedy", "speedy_expanded"} <= set(variable_set_names())


def test_an_extended_set_lists_the_others_variables_first_within_each_kind():
    base, expanded = variable_set("speedy"), variable_set("speedy_expanded")
    for kind in ("profile", "scalar"):
        ours = [v for v in expanded.inputs if v.kind == kind]
        theirs = [v for v in base.inputs if v.kind == kind]
        assert ours[: len(theirs)] == theirs and len(ours) > len(theirs)
    assert expanded.targets == base.targets


def test_offsets_follow_one_another_and_match_the_labels():
    held = variable_set("speedy")
    labels, place = channel_labels(held.inputs, 8), offsets(held.inputs, 8)
    at = 0
    for variable in held.inputs:
        part = place[variable.name]
        assert part.start == at
        assert labels[part] == variable.channels(8)
        at = part.stop
    assert at == len(labels)
    assert place["surface_pressure"] == slice(32, 33)
    assert labels[8] == "specific_humidity_0" and labels[32] == "surface_pressure"


def test_an_unknown_set_gives_the_nearest_name():
    with pytest.raises(UsageError, match="unknown variable set 'spedy'; did you mean speedy"):
        variable_set("spedy")


@pytest.mark.parametrize("name", ["speedy", "speedy_expanded"])
def test_a_set_survives_its_dict(name):
    held = variable_set(name)
    assert VariableSet.from_dict(held.to_dict()) == held


@pytest.mark.parametrize(
    "values", [{"name": "x"}, {"name": "x", "inputs": 3, "targets": []}, {"name": "x", "inputs": [1], "targets": []}]
)
def test_a_malformed_dict_is_refused(values):
    with pytest.raises(SubgridError, match="malformed variable set"):
        VariableSet.from_dict(values)


def test_a_variable_of_unknown_kind_or_key_is_refused():
    with pytest.raises(SubgridError, match="variable 'x': kind is 'field', not profile or scalar"):
        Variable.from_dict({"name": "x", "kind": "field", "units": "1"})
    with pytest.raises(SubgridError, match="malformed variable description"):
        Variable.from_dict({"name": "x", "kind": "scalar", "units": "1", "colour": "red"})


def test_repeated_variables_and_scalars_before_profiles_are_refused():
    t, p = Variable("t", "profile", "K"), Variable("p", "scalar", "Pa")
    with pytest.raises(SubgridError, match="'x': inputs repeat t"):
        VariableSet("x", (t, t, p), ())
    with pytest.raises(SubgridError, match="'x': targets must list profiles before scalars"):
        VariableSet("x", (t,), (p, t))


@pytest.fixture
def as_set(tmp_path, monkeypatch):
    """Reads a YAML text as the variable set ``mine``, beside the package's own."""
    real = variables._own_sets

    def read(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        monkeypatch.setattr(variables, "_own_sets", lambda: {**real(), "mine": path})
        return variable_set("mine")

    return read


def test_a_set_is_read_from_yaml(as_set):
    held = as_set("inputs: {scalars: {p: {units: Pa}}, profiles: {t: {units: K, long_name: warmth}}}")
    assert [(v.name, v.kind, v.units) for v in held.inputs] == [("t", "profile", "K"), ("p", "scalar", "Pa")]
    assert held.targets == ()


@pytest.mark.parametrize(
    "text",
    [
        "inputs:\n  profiles:\n    t: {units: K}\n    t: {units: C}\n",  # twice in one file
        "inputs: {}\ninputs: {}\n",  # a whole section twice
        "extends: speedy\ninputs: {profiles: {temperature: {units: K}}}\n",  # held by the parent already
    ],
)
def test_duplicates_in_yaml_are_refused(as_set, text):
    with pytest.raises(SubgridError, match=r"mine.*(repeat|twice)"):
        as_set(text)


def test_a_sum_takes_the_place_of_the_variable_that_it_extends(as_set):
    total = "{units: K/s, sum_of: {temperature_tendency: 1, temperature_tendency_diffusion: -1}}"
    held = as_set(f"extends: speedy\ntargets: {{profiles: {{temperature_tendency: {total}}}}}")
    plain = variable_set("speedy")
    assert [v.name for v in held.targets] == [v.name for v in plain.targets]
    assert held.targets[0].stored == {"temperature_tendency": 1.0, "temperature_tendency_diffusion": -1.0}
    assert held.targets[1:] == plain.targets[1:] and plain.targets[1].stored == {"specific_humidity_tendency": 1.0}
    again = VariableSet.from_dict(json.loads(json.dumps(held.to_dict())))
    assert again.targets == held.targets


@pytest.mark.parametrize("sums", ["[a, b]", "{a: much}", "3"])
def test_a_malformed_sum_is_refused(as_set, sums):
    with pytest.raises(SubgridError, match="mine"):
        as_set(f"inputs: {{profiles: {{t: {{units: K, sum_of: {sums}}}}}}}")


@pytest.mark.parametrize(
    "text", ["inputs: [", "- 1\n", "inputs: {profiles: {t: }}", "inputs: {profiles: [t]}", "inputs: 3"]
)
def test_malformed_yaml_is_refused_by_name(as_set, text):
    with pytest.raises(SubgridError, match="mine"):
        as_set(text)


def test_sets_that_extend_one_another_are_refused(as_set):
    with pytest.raises(SubgridError, match="mine"):
        as_set("extends: mine\n")
