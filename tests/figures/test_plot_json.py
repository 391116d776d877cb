"""What leaves for the browser: the tools of a figure, and names that stay text."""

from __future__ import annotations

import re
from pathlib import Path

import plotly.graph_objects as go

from dashboard.figures.plot_json import CONFIG, browser_json, browser_record

ROOT = Path(__file__).resolve().parents[2]


def test_a_figure_exported_as_html_names_no_other_host_and_offers_no_upload():
    figure = go.Figure(go.Scatter(x=[1], y=[1]), layout={"template": None})
    made = figure.to_html(config=CONFIG, include_plotlyjs=False)
    assert '"showSendToCloud": false' in made and not re.search(r"https?://", made)


def test_an_export_changes_nothing_for_the_figures_drawn_after_it():
    figure = go.Figure(go.Scatter(x=[1], y=[1]))
    figure.to_html(config=CONFIG, include_plotlyjs=False)  # takes plotlyServerURL out of what it is given
    assert browser_record(figure)["config"]["plotlyServerURL"] == ""


def test_wherever_we_show_how_to_export_one_it_is_exported_that_way():
    places = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("dashboard/**/*.py"), *ROOT.glob("bench/*.py")]
    texts = [file.read_text("utf-8") for file in places]
    calls = [call for text in texts for call in re.findall(r"\.(?:write|to)_html\([^)\n]*\)", text)]
    assert calls and all("config=CONFIG" in call for call in calls), calls


def test_a_link_in_a_name_is_text_and_other_markup_stays():
    figure = go.Figure(go.Scatter(x=[1], y=[1], name="<a href='https://x.example'>x</a> <b>y</b>"))
    made = browser_json(browser_record(figure))
    assert "<a " not in made.replace("\\u003c", "<") and "&lt;a href" in made and "b" in made
