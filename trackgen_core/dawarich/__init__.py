"""Dawarich beside Trackgen: its points mirrored, its tracks compared with ours, and ours written in their place."""
