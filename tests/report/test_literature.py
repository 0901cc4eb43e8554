"""The section of the literature's scores: figures with labelled axes, tables with the published rows, bands."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from subgrid.base.errors import SubgridError
from subgrid.evaluation.seeds import seed_bands
from subgrid.report import literature, write_report
from subgrid.report.literature_section import literature_section, published_tables, score_table
from subgrid.report.results import Results, read_results
from subgrid.report.style import EMULATOR, NARROW, WIDE, png

from .builder import literature_scores, literature_sections, make_literature, scores

BANDS = seed_bands({k: {"split": "test", "metrics": {"climsim": literature_scores()}} for k in "ab"})
FIGURES = {
    "r2": lambda narrow: literature.r2_profiles(literature_scores(), narrow=narrow),
    "bands": lambda narrow: literature.r2_profiles(literature_scores(), BANDS, narrow=narrow),
    "bias": lambda narrow: literature.zonal_bias(literature_scores(), literature_sections(), narrow=narrow),
    "daily": lambda narrow: literature.daily_r2(literature_scores(), literature_sections(), narrow=narrow),
    "rain": lambda narrow: literature.moistening(literature_sections(), narrow=narrow),
    "confidence": lambda narrow: literature.confidence(literature_sections(confidence=True), narrow=narrow),
}


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_panel_is_labelled(name, narrow):
    figure = FIGURES[name](narrow)
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == NARROW if narrow else figure.get_figwidth() <= WIDE
    for ax in figure.axes:
        assert ax.get_xlabel() or ax.get_ylabel() or ax.get_title()
    assert any(ax.get_xlabel() for ax in figure.axes) and any(ax.get_ylabel() for ax in figure.axes)
    assert png(figure, dpi=40).startswith(b"\x89PNG")


def test_cloud_phases_are_drawn_in_place_of_their_sum():
    names = literature.shown(literature_scores())
    assert names == ["ptend_t", "ptend_q0001", "ptend_q0002", "ptend_q0003", "ptend_u", "ptend_v"]


def test_a_line_is_drawn_where_its_scores_are():
    result = literature_scores()
    figure = literature.r2_profiles(result)
    line = next(line for line in figure.axes[1].lines if line.get_color() == EMULATOR)
    wanted = literature.by_level(result["variables"]["ptend_q0001"]["r2_guarded_level"])
    np.testing.assert_array_equal(line.get_xdata(), wanted)
    assert np.isnan(wanted[:3]).all()


def test_a_panel_whose_lines_lie_off_its_axis_says_so():
    result = literature_scores()
    for key in ("r2_guarded_level", "r2_pooled_level"):
        result["variables"]["ptend_t"][key] = [-5.0] * 20
    texts = [[t.get_text() for t in ax.texts] for ax in literature.r2_profiles(result).axes]
    assert texts[0] == ["below −0.25 throughout"] and not any(texts[1:])


def test_contours_of_daily_r2_are_at_07_and_09():
    figure = literature.daily_r2(literature_scores(), literature_sections())
    drawn = [c for c in figure.axes[0].collections if hasattr(c, "levels")]
    assert [c.levels.tolist() for c in drawn] == [[0.7, 0.9]]


def test_the_tables_hold_the_run_and_the_published_networks():
    result = literature_scores(members=True)
    table = score_table(result)
    assert table.header[4] == "CRPS" and table.rows[0][:2] == ["Heating", table.rows[0][1]]
    moistening = dict(zip(table.header, table.rows[1], strict=True))
    assert moistening["R²"] == "–" and moistening["Constant"] == "384"
    mae, r2 = published_tables(result)
    assert mae.header == ["Variable", "CNN", "ED", "HSR", "MLP", "RPN", "cVAE", "This run"]
    assert mae.rows[0][:3] == ["Heating", "2.585", "2.684"] and "Yu et al. (2023)" in mae.caption
    assert r2.rows[1][1:] == ["–"] * 7
    result["variables"]["ptend_t"]["r2_guarded"] = -145777.055
    assert score_table(result).rows[0][6] == "−150,000"
    assert "CRPS" not in score_table(literature_scores()).header


def test_without_literature_scores_there_is_no_section(tmp_path):
    assert literature_section(Results(tmp_path, scores=scores())) is None


@pytest.mark.usefixtures("quick")
def test_a_page_with_bands_over_seeds(tmp_path):
    runs = [make_literature(tmp_path / f"s{k}", 0.05 * k) for k in range(3)]
    page = write_report(runs[0], seeds=runs[1:]).read_text()
    assert "The literature’s scores" in page and "bands span 3 seeds" in page
    assert "daily means in bands of 10 degrees" in page and "the wettest begins at" in page
    bands = read_results(runs[0], runs[1:]).seeds["variables"]["ptend_t"]["r2_pooled_level"]
    np.testing.assert_allclose(np.subtract(bands["max"], bands["min"]), 0.1)
    assert "bands span" not in write_report(runs[0]).read_text()


@pytest.mark.usefixtures("quick")
def test_a_seed_without_scores_is_refused_by_name(tmp_path):
    own = make_literature(tmp_path / "own")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SubgridError, match=r"none in .*empty: run subgrid evaluate RUN metrics=climsim"):
        write_report(own, seeds=[tmp_path / "empty"])
    assert not (own / "report.html").exists()
    other = make_literature(tmp_path / "other", split="scoring")
    with pytest.raises(SubgridError, match="splits, variables or levels differ"):
        write_report(own, seeds=[other])
