"""Building blocks of methods: prompts, heads, pools, moments, buffers, teachers."""
