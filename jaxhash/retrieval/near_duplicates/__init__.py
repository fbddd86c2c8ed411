"""Near duplicates: items whose codes are within a small Hamming radius.

`join` finds all pairs of codes within a radius, exactly; `tables` are the keys by which it does so
without comparing every pair.

`find` joins the codes of an index and makes groups of the pairs: `keep` orders items by what is to be kept,
`groups` has stars and components, and `links` tells where a radius is so large that pairs chain. `counts`
and `overview` say what was found, `columns` reads the names of the items, and `lists` writes them.

Read first: `join`, and `find`.
"""
