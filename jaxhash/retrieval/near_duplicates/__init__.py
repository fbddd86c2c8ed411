"""Near duplicates: items whose codes are within a small Hamming radius.

`join` finds all pairs of codes within a radius, exactly; `tables` are the keys by which it does so
without comparing every pair.
"""
