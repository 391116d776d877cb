"""The dashboard: pages over run folders. Reads stored runs and sends commands; imports no training code."""
