"""The commands of `jaxgen`, one file each, named in `cli.COMMANDS`.

A module's docstring is the command's help, FLAGS its flags; run(values) returns the exit code."""
