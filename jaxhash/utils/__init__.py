"""Helpers that every other folder may use; they import the standard library, numpy and rich, and nothing of jaxhash.

- `errors`: `UserError`, a mistake that the user can correct, described in one line.
- `files`: files that are written whole or not at all, and JSON that is read with care.
- `console`: lines and progress bars on a `rich.console.Console`.
- `hardware`: processor, memory and package versions of the host.

Read first: `errors`. Messages name an argument in backticks; the command prints a flag instead.
"""
