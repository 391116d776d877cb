"""Tables compare methods by their own heads, whatever a preset makes its headline."""

import pytest

from bench.recorded import finished
from bench.table import STORED, TABLES, config_of, digits_cells, main, name_of


def test_a_row_of_the_results_is_read_from_the_methods_own_head(tiny_config, tmp_path):
    config = tiny_config("sequential", tasks=2, training={"epochs": 1}, diagnostics={"headline": STORED})
    found = finished(config, "run", tmp_path)
    assert found.readout == "class-incremental" and STORED in found.readouts
    cells = digits_cells([found])
    assert cells[0] == f"{found.final_average_accuracy:.1f}"
    stored = found.readouts[STORED][-1]
    assert cells[5] == f"{sum(stored) / len(stored):.1f}"


@pytest.mark.parametrize("stream", TABLES)
def test_every_row_is_a_run_of_its_own_on_the_stream_of_its_table(stream):
    rows = TABLES[stream].rows
    assert {config_of(record, 0, settings, []).stream for _, record, settings in rows} == {stream}
    assert len({name_of(record, 0, settings) for _, record, settings in rows}) == len(rows)
    assert len({title for title, _, _ in rows}) == len(rows)


def test_a_row_that_is_not_there_is_refused_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["table", "--rows", "SGP", "Nobody", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match="no row of split-digits begins with 'Nobody'"):
        main()
    assert not list(tmp_path.iterdir())
