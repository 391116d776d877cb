"""Export: download the chosen run as a report, as data, or as a recording; import recordings.

Files are built only on request, from the run's stored events and arrays.
"""

from __future__ import annotations

import io
from typing import Any

import streamlit as st

from cl_core.store import StoreError
from dashboard.changes import unpack, viewing
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_folder, runs_index
from dashboard.theme import megabytes
from dashboard.view_state import ViewState, called, code, current, empty, go_to, literal, run_title, sentence, show_run
from dashboard.widgets.inspection import ask

LIBRARY = 4.9e6  # bytes of the plotting library in each report
LARGEST = 200  # MB that the server accepts from a browser


def report_file(log: Snapshot) -> bytes:
    """Build the report at the time the button is pressed."""
    from dashboard.report import report

    return report(log_of(log.folder).snapshot(force=True)).encode()


def data_file(log: Snapshot) -> bytes:
    """Build a ZIP with all tables and arrays."""
    from cl_core.export import data_files, leaf, zipped

    return zipped(data_files(log.folder), f"{leaf(log.folder)}-data")


def recording_file(log: Snapshot) -> bytes:
    """Build a ZIP of the run without its checkpoints."""
    from cl_core.store import pack

    out = io.BytesIO()
    pack(log.folder, out)
    return out.getvalue()


def stored_bytes(log: Snapshot) -> int:
    """Return the size on disk of the run's events and arrays."""
    files = [log.folder.database, *log.folder.arrays.glob("*.npy")]
    return sum(file.stat().st_size for file in files if file.is_file())


def offers(frame: ViewState, log: Snapshot) -> None:
    """Draw the three downloads, each with its contents."""
    stored, so_far = stored_bytes(log), ", so far" if frame.live else ""
    held = frame.live or log.status().pid is not None
    report, data, recording = st.columns(3)
    with report:
        offer(
            "Report (HTML)",
            "One file with every figure below, the numbers with their definitions, and all settings. It opens in any "
            "browser, in light and dark, prints on A4, and needs no network. Folders appear by name only, without "
            f"their path. About {megabytes(LIBRARY + 0.5 * stored)}.",
            so_far,
            data=lambda: report_file(log),
            file_name=f"{log.name}.html",
            mime="text/html",
            key="export-report",
            icon=":material/description:",
            type="primary",
        )
    with data:
        offer(
            "Data (ZIP)",
            "Accuracies, every step, spectra, drift and all other measurements as CSV and `.npz`, settings and "
            "summary as JSON, and a README with formulas, conventions and the seed. At most about "
            f"{megabytes(max(stored, 2e4))}.",
            so_far,
            data=lambda: data_file(log),
            file_name=f"{log.name}-data.zip",
            mime="application/zip",
            key="export-data",
            icon=":material/table:",
        )
    with recording:
        offer(
            "Recording (ZIP)",
            "The run without its checkpoints: another Plastiscope can show all of it, but cannot train it "
            "further. Settings and messages are unchanged, including folder names of this machine. At most about "
            f"{megabytes(max(stored, 2e4))}.",
            data=lambda: recording_file(log),
            file_name=f"{log.name}.zip",
            mime="application/zip",
            key="export-recording",
            icon=":material/movie:",
            disabled=held,
            help="A run in use by a process cannot be recorded: stop it, or let it finish" if held else None,
        )


def offer(label: str, about: str, so_far: str = "", *, key: str, **button: Any) -> None:
    """Draw a card with a file's contents and the button that builds it on request."""
    with st.container(border=True, key=f"panel-{key}", height="stretch"):
        st.markdown(f"**{label}{so_far}**")
        st.caption(about)
        st.download_button(label, key=key, on_click="ignore", **button)


def preview(frame: ViewState, log: Snapshot) -> None:
    """List the report's sections and the figures in them."""
    from dashboard.figures.catalogue import SECTIONS, contents
    from dashboard.report import facts

    st.markdown("### Contents of the report" + (" so far" if frame.live else ""))
    found = contents(log)
    head = "- **In numbers**: the default readout, the accuracy matrix, readouts, tasks and their classes"
    lines = [f"- **{SECTIONS[key]}**: " + "; ".join(literal(part.title) for part in parts) for key, parts in found]
    st.markdown(
        "\n".join([head, *lines, "- **Settings**: all, with differences from the preset or the default marked"])
    )
    if st.button("All measurements of this run", key="export-measurements", icon=":material/dataset:"):
        go_to("pages/measurements.py")
    if not found:
        st.caption("No figure yet: the first ones appear with the first step.")
    for said in facts.warnings(log):
        st.caption(f":material/info: {literal(said)}")


def elsewhere(log: Snapshot) -> None:
    """Say how to do the same in a terminal, and how to save single figures."""
    st.caption(
        f"In a terminal: `plastiscope report {_word(log.name)}` and `plastiscope export {_word(log.name)}`, with "
        "`--figures svg` also every figure as a file (needs the extra `export` and Chrome or Chromium). On every page "
        "each figure can be saved as SVG, PNG or CSV."
    )


def _word(name: str) -> str:
    return name.replace("`", "'") if name.replace("-", "").replace("_", "").replace(".", "").isalnum() else "RUN"


def bring_in() -> None:
    """Draw the import of a recording."""
    if viewing():
        return
    with st.expander("Import a recording", icon=":material/upload_file:", key="export-import"):
        st.caption(
            f"A ZIP made here or by `plastiscope export RUN --recording`, up to {LARGEST} MB; larger ones with "
            f"`plastiscope open FILE.zip`. It becomes a run in {code(runs_folder())}. Files of any other kind are "
            "refused."
        )
        given = st.file_uploader("Recording (ZIP)", type="zip", key="export-file", max_upload_size=LARGEST)
        if given is not None:
            st.button("Import", key="export-take", on_click=take, args=(given,), type="primary")
        said = st.session_state.pop("_imported", None)
        if said is not None:
            (st.success if said[0] else st.error)(sentence(said[1]))


def take(given: io.BytesIO) -> None:
    """Unpack the uploaded recording and show it."""
    try:
        folder = unpack(given, runs_folder())
    except StoreError as error:
        st.session_state["_imported"] = (False, str(error))
        return
    runs_index(fresh=True)
    st.session_state["_imported"] = (True, f"{called(folder.name)} has been imported and is now shown")
    show_run(folder.name)


def show() -> None:
    frame = current()
    log = frame.whole_log
    ask("Export")
    if log is None:
        empty(
            "This page creates a run's report, data and recording. It needs a run.", "Start one", page="pages/start.py"
        )
        bring_in()
        return
    st.caption(f"This exports {run_title(log)}, the folder {code(log.name)}.")
    if log.trouble:
        st.error(sentence(log.trouble), icon=":material/broken_image:")
    if log.config is None:
        st.markdown("This run cannot be exported: its settings cannot be read. The file to check is named above.")
    elif log.started() is None:
        empty(
            f"Nothing has been measured in {run_title(log)} yet; its report, data and recording are made here as soon "
            "as it trains.",
            "Follow the run",
            page="pages/run.py",
            key="export-empty",
        )
    else:
        offers(frame, log)
        preview(frame, log)
        elsewhere(log)
    bring_in()


show()
