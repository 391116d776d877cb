"""Making the embedded weights anew: only needed by those who want to check or change them."""
