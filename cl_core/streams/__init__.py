"""Tasks in order. Class ids are renumbered in order of arrival, once, here."""
