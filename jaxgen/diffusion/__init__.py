"""Gaussian diffusion: schedules and grids, predictions, the one sampler, guidance, and the
variational bound.
"""
