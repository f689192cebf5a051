"""Replay of recorded logs, metrics with intervals, reports."""
