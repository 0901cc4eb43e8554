"""What E3SM and CAM need beside the module: namelists, and notes on what their own code does to the same numbers."""

from __future__ import annotations

from typing import Any

from subgrid.deployment.contract import CONFIDENCE
from subgrid.deployment.pages import fill

#: E3SM's name of what a set's networks read and give, and how many steps its own physics must run before.
COMBINATIONS = {
    "v2": ("v2", 5),
    "v2_rh": ("v2", 5),
    "v2_rh_mc": ("v2", 5),
    "v4": ("v4", 72),
    "v5": ("v4", 72),
    "v6": ("v6", 5),
    "v6_raw": ("v6", 5),
}
#: And of a network that also gives its confidence.
WITH_CONFIDENCE = "v2_conf"
#: Where CAM's column physics holds what our quantities are; tendencies go into ``physics_ptend``.
CAM_FIELDS = {
    "temperature": "state%t(1:ncol,1:pver)",
    "specific_humidity": "state%q(1:ncol,1:pver,1)",
    "cloud_liquid": "state%q(1:ncol,1:pver,ixcldliq)",
    "cloud_ice": "state%q(1:ncol,1:pver,ixcldice)",
    "u_wind": "state%u(1:ncol,1:pver)",
    "v_wind": "state%v(1:ncol,1:pver)",
    "surface_pressure": "state%ps(1:ncol)",
    "surface_geopotential": "state%phis(1:ncol)",
    "sea_surface_temperature": "cam_in%sst(1:ncol)",
    "land_fraction": "cam_in%landfrac(1:ncol)",
    "sensible_heat_flux": "cam_in%shf(1:ncol)",
    "evaporation": "cam_in%cflx(1:ncol,1)",
    "temperature_tendency": "ptend%s(1:ncol,1:pver) = cpair * (this)",
    "specific_humidity_tendency": "ptend%q(1:ncol,1:pver,1)",
    "cloud_liquid_tendency": "ptend%q(1:ncol,1:pver,ixcldliq)",
    "cloud_ice_tendency": "ptend%q(1:ncol,1:pver,ixcldice)",
    "u_wind_tendency": "ptend%u(1:ncol,1:pver)",
    "v_wind_tendency": "ptend%v(1:ncol,1:pver)",
    "convective_precipitation": "prec_dp(1:ncol) = (this) / 1000",
    "large_scale_precipitation": "prec_sed(1:ncol) = (this) / 1000",
}


def e3sm_files(contract: dict[str, Any]) -> dict[str, str]:
    """Namelist, notes, and identity files for code that scales outside of the network: relative path -> text."""
    combination, spin_up = COMBINATIONS[contract["variable_set"]]
    expected = [one["first"] for one in contract["variables"]["outputs"] if one["name"].startswith(CONFIDENCE)]
    acting = {one["name"] for one in contract["constraints"]}
    values = {
        "c": contract,
        "combination": WITH_CONFIDENCE if expected else combination,
        "spin_up": spin_up,
        "humidity": ".false." if contract["variable_set"] == "v2" else ".true.",
        "acting": acting,
        "top": contract["pruning"]["deployed"]["outputs"],
        "expected_from": min(expected, default=0),
        "expanded": combination in ("v4", "v6"),
    }
    n_in, n_out = contract["n_in"], contract["n_out"]
    return {
        "e3sm/user_nl_eam": fill("user_nl_eam.jinja", **values),
        "e3sm/NOTES.md": fill("e3sm.md.jinja", **values),
        "e3sm/inp_sub.txt": "0.0\n" * n_in,
        "e3sm/inp_div.txt": "1.0\n" * n_in,
        "e3sm/out_scale.txt": "1.0\n" * n_out,
    }


def cam_files(contract: dict[str, Any]) -> dict[str, str]:
    """Namelist fragment and notes on the interface: relative path -> text."""
    values = {"c": contract, "fields": CAM_FIELDS}
    return {"cam/user_nl_cam": fill("user_nl_cam.jinja", **values), "cam/INTERFACE.md": fill("cam.md.jinja", **values)}
