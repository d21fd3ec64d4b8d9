"""Documented objects of Python source files, read as syntax trees: nothing of a package is imported or executed."""

import ast
import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.corpus.documented.prose import fault, summary

MAX_SIGNATURE = 160
MAX_DEFAULT = 32

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class DocObject:
    """A public object with its documentation; `page` is the module or class on whose page it stands."""

    id: str
    name: str
    kind: str
    package: str
    module: str
    page: str
    signature: str
    summary: str
    docstring: str
    source_file: str
    line: int


@dataclass(frozen=True)
class Usable:
    """What a docstring must have to be used."""

    min_words: int
    max_chars: int


def read_objects(package: str, name: str, path: Path, usable: Usable, counts: Counter[str]) -> list[DocObject]:
    """Return the usable objects of one source file in order; count every documented object, and why one is left out."""
    tree = parse(path)
    if tree is None:
        counts["files_unparsed"] += 1
        return []
    counts["files"] += 1
    module = module_name(name)
    found: dict[str, DocObject] = {}
    for node, local, kind, is_public in definitions(tree):
        docstring = ast.get_docstring(node) if node.body else None
        if not docstring:
            continue
        counts["in"] += 1
        sentence = summary(docstring)
        qualified = f"{module}.{local}" if local else module
        reason = "private" if not is_public else fault(sentence, usable.min_words, usable.max_chars)
        if not reason and not _encodes(docstring):
            reason = "surrogate"
        if not reason and qualified in found:
            reason = "same_name"
        if reason:
            counts[f"dropped.{reason}"] += 1
            continue
        owner = qualified if kind == "class" else qualified.rpartition(".")[0] if kind == "method" else module
        found[qualified] = DocObject(
            id=hashlib.sha256(f"{package}\n{qualified}".encode()).hexdigest()[:16],
            name=qualified,
            kind=kind,
            package=package,
            module=module,
            page=owner,
            signature=signature(node, local or module),
            summary=sentence,
            docstring=docstring,
            source_file=name,
            line=getattr(node, "lineno", 0),
        )
    return list(found.values())


def parse(path: Path) -> ast.Module | None:
    """Return the file's syntax tree, or None where it is no Python of this interpreter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in other people's strings
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def module_name(file: str) -> str:
    """Return the dotted name of the module that a file of a package holds."""
    return re.sub(r"/__init__$|^__init__$", "", file.removesuffix(".py")).replace("/", ".")


def definitions(tree: ast.Module) -> Iterator[tuple[Definition, str, str, bool]]:
    """Yield the module, its classes, methods and functions: node, name inside the module, kind, whether it is public.

    Definitions inside functions are no part of an interface and are passed over.
    """
    yield tree, "", "module", True
    yield from _inside(tree.body, "", True)


def _inside(body: list[ast.stmt], owner: str, is_public: bool) -> Iterator[tuple[Definition, str, str, bool]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, owner + node.name, "method" if owner else "function", is_public and node.name[0] != "_"
        elif isinstance(node, ast.ClassDef):
            shown = is_public and node.name[0] != "_"
            yield node, owner + node.name, "class", shown
            yield from _inside(node.body, f"{owner}{node.name}.", shown)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            blocks = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
            for block in blocks + [handler.body for handler in getattr(node, "handlers", [])]:
                yield from _inside(block, owner, is_public)


def signature(node: Definition, name: str) -> str:
    """Return how the object is called, without annotations: `Console.print(*objects, sep=' ')`."""
    if isinstance(node, ast.Module):
        return name
    if isinstance(node, ast.ClassDef):
        made = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return signature(made[0], name) if made else name
    if any(
        isinstance(item, ast.Name | ast.Attribute) and "property" in ast.unparse(item) for item in node.decorator_list
    ):
        return name
    text = f"{name}({', '.join(_parameters(node.args))})"
    return text if len(text) <= MAX_SIGNATURE else f"{name}(...)"


def _parameters(args: ast.arguments) -> Iterator[str]:
    placed = args.posonlyargs + args.args
    defaults = [None] * (len(placed) - len(args.defaults)) + list(args.defaults)
    for index, (arg, default) in enumerate(zip(placed, defaults, strict=True)):
        if index or arg.arg not in ("self", "cls"):
            yield _parameter(arg, default)
    if args.vararg:
        yield f"*{args.vararg.arg}"
    elif args.kwonlyargs:
        yield "*"
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _parameter(arg, default)
    if args.kwarg:
        yield f"**{args.kwarg.arg}"


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return arg.arg
    text = repr(default.value) if isinstance(default, ast.Constant) else ast.unparse(default)
    return f"{arg.arg}={text if len(text) <= MAX_DEFAULT and text.isprintable() else '...'}"


def _encodes(text: str) -> bool:
    """Return whether the text has no lone surrogates, which an escape in a string literal can make."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
