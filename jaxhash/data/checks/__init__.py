"""Checks of data before there is a model.

`split_report` is ``jaxhash data check``; `training_data` is what training looks at first. Both look for
equal inputs in several parts (`duplicates`) and at what labels allow (`relevance`).
"""
