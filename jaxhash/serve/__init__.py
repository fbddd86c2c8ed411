"""The page and the JSON API over an index, for one machine: ``jaxhash serve``."""
