"""One function, one figure: events or arrays in, a figure out. No streamlit, no files, no state."""
