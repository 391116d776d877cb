"""Observers: measurements that never change training."""
