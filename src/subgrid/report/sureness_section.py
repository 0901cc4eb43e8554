"""The section of what an emulator says of its own errors: its draws, and its confidence."""

from __future__ import annotations

from subgrid.report import offline, sureness
from subgrid.report.blocks import Drawing, Section, Table, drawing
from subgrid.report.results import Record, Results
from subgrid.report.words import count, fixed, short, skill, units

#: Shares of rows in the table of a confidence.
SHARES = (1.0, 0.9, 0.5, 0.1)


def sureness_section(results: Results) -> Section | None:
    """How well the emulator knows how wrong it may be; None where it says nothing of that."""
    scores = results.scores or {}
    members, confidence = scores.get("members"), scores.get("confidence")
    lead: list[str] = []
    blocks: list[Drawing | Table] = []
    if members:
        lead.append(
            f"The network gives a distribution: {count(members['members'])} seeded draws of each column are scored by "
            "CRPS (which of one draw would be its absolute error) and by their spread, which is right where spread ÷ "
            "RMSE of their mean is 1: below, the network is surer than it should be."
        )
        blocks.append(member_table(scores, members))
    if confidence:
        lead.append(confidence_lead(confidence))
        if sureness.shown(confidence):
            blocks.append(
                drawing(
                    "sureness",
                    "R² and squared error of the rows of which the emulator is surest",
                    "Skill where only the surest rows of each output are kept. Squared error falls from left to right "
                    "where the confidence is worth something; the dashed line is an order by the true error. R² may "
                    "fall with it: what is sure is often what hardly varies.",
                    lambda n: sureness.kept_skill(confidence, narrow=n),
                )
            )
        blocks.append(confidence_table(confidence))
    return Section("sureness", "How sure the emulator is", lead, blocks=blocks) if blocks else None


def member_table(scores: Record, members: Record) -> Table:
    """CRPS, spread and error of every variable."""
    rows = []
    for name, entry in members["variables"].items():
        unit = units(scores["variables"].get(name, {}).get("units", ""))
        mine = scores["models"].get("emulator", {}).get(name, {})
        native = [f"{short(entry[key])} {unit}".strip() for key in ("crps", "spread", "rmse")]
        mae = f"{short(mine.get('mae'))} {unit}".strip()
        rows.append(
            [offline.title_of(scores, name), mae, *native, fixed(entry["spread_error"], 2), short(entry["crps_energy"])]
        )
    header = ["Variable", "MAE of the answer", "CRPS", "Spread", "RMSE of the mean", "Spread ÷ RMSE", "CRPS (W/m²)"]
    return Table(f"Draws of every variable, seed {members['seed']}.", header, rows)


def confidence_lead(result: Record) -> str:
    """What the rank correlations are."""
    ranks = result["rank_correlation"]
    return (
        f"The network tells the loss of each output. Spearman’s rank correlation of told and true error, on "
        f"{count(result['rows'])} rows: {fixed(ranks['pooled'])} of all outputs and rows together, "
        f"{fixed(ranks['columns'])} of whole columns, {fixed(ranks['channels'])} as the mean over outputs, which would "
        f"be {fixed(ranks['expected'])} if errors were normal with exactly the variance that is told."
    )


def confidence_table(result: Record) -> Table:
    """Rank correlation and R2 of the surest rows of every variable."""
    at = [result["kept"].index(share) for share in SHARES]
    rows = []
    for name, entry in result["variables"].items():
        kept = entry["r2_kept"]
        surest = [skill(None if kept is None else kept[k]) for k in at]
        rows.append([sureness.heading(entry, name), fixed(entry["rank_correlation"]), *surest])
    caption = (
        "Rank correlation (mean over levels), and R² of the surest rows of each output against their own mean; levels "
        "count alike, in units of their spread."
    )
    return Table(caption, ["Variable", "Rank correlation", *(f"R² of {share:.0%}" for share in SHARES)], rows)
