"""Parts that pages are made of. Each draws itself and keeps its state under its own key."""
