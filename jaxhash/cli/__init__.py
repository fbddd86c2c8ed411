"""The command ``jaxhash``: what flags are called, and what the command prints when something is wrong.

Start with `main`, which runs a verb and turns errors into exit statuses. Each verb is a module of
its own with the flags it takes: `train`, `evaluate`, `data` and `bench`. A verb parses its flags,
checks that they go together, and calls the library, which does the work.

`parsing` reads flags by tyro, which no other folder imports, and `mistakes` explains in one line what
tyro refuses. The library's messages name arguments in backticks; `flags` turns those into flags.
`output` opens standard output. `usage` holds the short help and the examples, and `help` lays out help
for the width of a terminal.
"""
