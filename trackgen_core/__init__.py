"""Trackgen's library: from raw GPS fixes to tracks.

Read the modules in the order in which data flows: `points`, `readers`, `settings`, `geodesy`, `segmentation`,
`merging`, `paths`; then where it is kept: `schema`, `database`, `store`; and what is done with it: `importing`,
`generation`, `export`.
"""
