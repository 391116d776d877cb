"""Tables compare methods by their own heads, whatever a preset makes its headline."""

from bench.recorded import finished
from bench.table import STORED, digits_cells


def test_a_row_of_the_results_is_read_from_the_methods_own_head(tiny_config, tmp_path):
    config = tiny_config("sequential", tasks=2, training={"epochs": 1}, diagnostics={"headline": STORED})
    found = finished(config, "run", tmp_path)
    assert found.readout == "class-incremental" and STORED in found.readouts
    cells = digits_cells([found])
    assert cells[0] == f"{found.final_average_accuracy:.1f}"
    stored = found.readouts[STORED][-1]
    assert cells[5] == f"{sum(stored) / len(stored):.1f}"
