"""Components of pages. Each draws itself and keeps its state under its own key."""
