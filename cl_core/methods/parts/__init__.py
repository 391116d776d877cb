"""What methods are built from: prompts, heads, pools, moments, buffers, teachers."""
