"""Settings of an emulator: what is unknown or out of range is refused with what would be valid."""

from __future__ import annotations

import json

import pytest

from subgrid.base.errors import UsageError
from subgrid.emulator import EmulatorConfig


def test_round_trip_through_json():
    config = EmulatorConfig(inputs="raw", water="projection", condense_hours=2.5, clip_inputs=False)
    assert EmulatorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_setting_gives_the_nearest():
    with pytest.raises(UsageError, match="unknown emulator setting 'clip_input'; did you mean clip_inputs"):
        EmulatorConfig.from_dict({"clip_input": True})


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("inputs", "relative_humdity", "relative_humidity"),
        ("saturation", "muray", "murray"),
        ("water", "project", "projection"),
    ],
)
def test_an_unknown_choice_gives_the_nearest(name, value, hint):
    with pytest.raises(UsageError, match=rf"unknown emulator\.{name} '{value}'; did you mean .*{hint}"):
        EmulatorConfig(**{name: value})


@pytest.mark.parametrize("settings", [{"condense_hours": 0}, {"condense_hours": -1}, {"condense_above": 0.1}])
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        EmulatorConfig(**settings)
