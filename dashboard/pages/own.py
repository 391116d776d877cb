"""Your own: pictures to train on, or results that another program has written."""

from __future__ import annotations

import streamlit as st

from dashboard.changes import viewing
from dashboard.widgets.import_results import import_section
from dashboard.widgets.own_pictures import own_pictures


def show() -> None:
    st.markdown("## Your own pictures or run")
    if viewing():
        st.info("This dashboard is for viewing: nothing can be brought in here.", icon=":material/visibility:")
        return
    pictures, results, loop = st.tabs(["Pictures", "Results of another program", "Your own training loop"])
    with pictures:
        own_pictures()
    with results:
        import_section()
    with loop:
        st.markdown(
            "### Your own training loop\n\nThree lines record any PyTorch loop as a run that every page opens; "
            "`docs/own-loop.md` has the rest, and wrappers for Avalanche, Lightning and Hugging Face Trainer."
        )
        st.code(
            "from cl_core.recorder import Recorder\n\n"
            'recorder = Recorder("runs/mine", model, tasks=["cats", "dogs"])\n'
            "recorder.step(loss=loss)                          # after optimizer.step()\n"
            'recorder.end_task(0, evaluate={"cats": loader})   # or accuracies={"cats": 93.1}\n',
            language="python",
        )


show()
