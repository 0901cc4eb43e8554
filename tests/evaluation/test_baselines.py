"""The published tables, as shipped, and a run's row in them."""

import pytest

from subgrid.evaluation.baselines import beside, lines, published


def run(*names):
    return {name: {"mae": 1.5, "r2": None} for name in names}


def test_the_table_has_a_number_for_every_network():
    table = published()
    assert table["order"] == ["CNN", "ED", "HSR", "MLP", "RPN", "cVAE"] == list(table["models"])
    for score in ("mae", "r2"):
        assert all(len(row) == 6 for row in table[score].values())
    assert len(table["mae"]) == 10 and set(table["mae"]) - set(table["r2"]) == {"ptend_q0001", "cam_out_PRECSC"}


@pytest.mark.parametrize(
    ("score", "variable", "model", "value"),
    [
        ("mae", "ptend_t", "CNN", 2.585),
        ("mae", "cam_out_SOLLD", "cVAE", 6.066),
        ("mae", "cam_out_PRECC", "MLP", 34.33),
        ("r2", "cam_out_PRECC", "HSR", -68.35),
        ("r2", "ptend_t", "CNN", 0.627),
        ("r2", "ptend_q0001", "MLP", None),
    ],
)
def test_values_as_published(score, variable, model, value):
    assert beside(run("ptend_t", "ptend_q0001", "cam_out_PRECC", "cam_out_SOLLD"))[score][variable][model] == value


def test_a_run_of_other_variables_has_no_table():
    assert beside(run("temperature_tendency")) is None


def test_lines_show_what_is_missing_as_dashes_and_name_the_source():
    text = lines(beside(run("ptend_t", "ptend_q0001")))
    assert text[0].split() == ["MAE", "(W/m2)", "CNN", "ED", "HSR", "MLP", "RPN", "cVAE", "this", "run"]
    dry = [line.split() for line in text if line.startswith("ptend_q0001")]
    assert dry[0][-1] == "1.5" and dry[1] == ["ptend_q0001", *["--"] * 7]
    assert "scoring" in text[-2] and "leap-stc/ClimSim" in text[-1]
