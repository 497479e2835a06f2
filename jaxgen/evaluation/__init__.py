"""Measuring samples. `metrics` are pure functions of arrays, `features` networks that see images,
`scores` a table with one row a score, `reference` what samples are measured against; `measure`
makes the record of a system, or of anybody's files.
"""
