"""One training as a folder: what lies in it, and the members of a sweep, each of which is one."""
