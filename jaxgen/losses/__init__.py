"""Losses that every system shares.

Each module holds pure functions of arrays, usable alone, and *terms*: factories `(**options) ->
Term` where a term maps a wiring's named outputs to one float32 number per example. `objective`
weighs the terms that a config names."""
