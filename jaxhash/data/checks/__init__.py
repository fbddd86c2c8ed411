"""Checks of data before there is a model.

`split_report` is ``jaxhash data check``; `training_data` is the checks before training. Both use
`duplicates`, which finds equal inputs in several parts, and `relevance`, which checks the labels.
"""
