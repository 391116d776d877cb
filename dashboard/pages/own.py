"""Your own: images to train on, results of another program, or a custom training loop."""

from __future__ import annotations

import streamlit as st

from dashboard.changes import viewing
from dashboard.widgets.import_results import import_section
from dashboard.widgets.inspection import ask
from dashboard.widgets.own_pictures import own_pictures

PICTURES, RESULTS, LOOP = PARTS = ("Pictures", "Results of another program", "Your own training loop")


def show() -> None:
    ask("Your own pictures or run")
    if viewing():
        st.info("This dashboard is for viewing: nothing can be imported here.", icon=":material/visibility:")
        return
    part = st.segmented_control(
        "What do you want to use?",
        PARTS,
        default=PICTURES,
        key="own-part",
        bind="query-params",
        required=True,
        label_visibility="collapsed",
    )
    if part == RESULTS:
        import_section()
    elif part == LOOP:
        own_loop()
    else:
        own_pictures()


def own_loop() -> None:
    """Show how a training loop is recorded."""
    st.markdown(
        "### Your own training loop\n\nThree lines record any PyTorch loop as a run that every page opens; "
        "`docs/own-loop.md` has the details, and wrappers for Avalanche, Lightning and Hugging Face Trainer."
    )
    st.code(
        "from cl_core.recorder import Recorder\n\n"
        'recorder = Recorder("runs/mine", model, tasks=["cats", "dogs"])\n'
        "recorder.step(loss=loss)                          # after optimizer.step()\n"
        'recorder.end_task(0, evaluate={"cats": loader})   # or accuracies={"cats": 93.1}\n',
        language="python",
    )


show()
