"""Continual-learning methods: one paper, one file."""
