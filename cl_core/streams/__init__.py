"""Task streams. Class ids are renumbered in order of arrival here, and only here."""
