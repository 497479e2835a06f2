"""Measuring samples: `metrics` (pure functions of feature arrays), `judge`, `protocol` (what one
run's record holds), `report`.
"""
