"""The page and the JSON API over an index, for one machine: ``jaxhash serve``.

`app` makes the application of `api`, which has the routes, with the checks of `security`. `served_index`
is the index as it is now, read only; `ranking` what a search of it found; `encoder` its hash function;
`uploads` and `images` read images within limits, and `parameters` queries. `cache` keeps what was computed.
`server` runs it.

Read first: `api`.
"""
