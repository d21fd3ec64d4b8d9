"""Which names are source code, and which are licences of it."""

import re

CODE = tuple(
    f".{ending}"
    for ending in (
        "ada adb ads agda asm awk bash c cc cl clj cljs cmake coffee cpp cs cu cuh cxx d dart el elm erl ex exs f f03 "
        "f08 f77 f90 f95 for fs fsx glsl go gradle groovy h hh hpp hrl hs hxx ino java jl js jsx kt kts lean lisp lua "
        "m4 mjs ml mli mm nim nix pas php pl pm proto ps1 purs py pyi pyx r rb rkt rs s sass scala scm scss sh sol sql "
        "sv svelte swift tcl tf ts tsx v vala vb vhd vhdl vim vue wat zig zsh"
    ).split()
)
LICENCE_FILE = re.compile(r"(?:un)?licen[cs]e(?:[-._].*)?|copying(?:[-._].*)?", re.IGNORECASE)


def is_code(name: str) -> bool:
    """Return whether a file's name ends as source code does."""
    return name.lower().endswith(CODE)


def is_licence(name: str) -> bool:
    """Return whether a file, by its name without folders, holds a licence; `license.py` holds code."""
    return LICENCE_FILE.fullmatch(name) is not None and not is_code(name)
