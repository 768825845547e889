"""The house rules that ruff, mypy and import-linter do not know, as functions over a source tree.

Each rule takes the root of a checkout and returns one line per violation, `path:line: what is wrong`.
The tests run every rule on this repository and on a small tree with a planted violation.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

LIBRARIES = ("market", "runtime")
ROOMS = ("exchange_sim", "producer", "inserter", "aggregator", "flask_stream", "webapp", "stack", "candlewire")
PACKAGES = (*LIBRARIES, *ROOMS)

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_POSITIONAL_PARAMETERS = 5
MAX_MAIN_LINES = 60

#: What `market` may import: nothing that does I/O, reads a clock or draws a random number.
PURE_MODULES = frozenset(
    {"__future__", "abc", "bisect", "collections", "dataclasses", "decimal", "enum", "fractions", "functools"}
    | {"hashlib", "heapq", "itertools", "math", "msgspec", "operator", "re", "string", "types", "typing"}
)
CLOCK_FILE = "runtime/clock.py"
CLOCK_CALLS = frozenset(["time", "time_ns", "sleep", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"])
DATETIME_CALLS = frozenset(["now", "utcnow", "today"])
VAGUE_NAMES = frozenset(["utils", "util", "common", "helpers", "helper", "core", "base", "misc", "shared"])
#: Names that a framework dictates; their meaning is documented there.
FRAMEWORK_NAMES = frozenset({"Meta", "Migration"})
#: Calls that name a topic in their first argument.
TOPIC_CALLS = frozenset(
    ["TopicPartition", "send", "send_and_wait", "NewTopic", "subscribe", "partitions_for_topic", "NewPartitions"]
)

Rule = Callable[[Path], list[str]]


@cache
def parsed(text: str) -> ast.Module:
    """Syntax tree of a module's text, made once for all rules: none of them changes it."""
    return ast.parse(text)


def modules(root: Path, packages: tuple[str, ...] = PACKAGES) -> Iterator[tuple[str, ast.Module, str]]:
    """Relative path, syntax tree and text of every module of the packages that exist under `root`."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if "node_modules" not in path.parts:
                text = path.read_text("utf-8")
                yield path.relative_to(root).as_posix(), parsed(text), text


def budgets(root: Path) -> list[str]:
    """Module, function and parameter budgets, tests included; `__main__.py` of a room only connects things."""
    found = []
    for path, tree, text in modules(root, (*PACKAGES, "bench", "tests")):
        lines = len(text.splitlines())
        is_room = not path.startswith(("bench/", "tests/"))
        limit = MAX_MAIN_LINES if path.endswith("__main__.py") and is_room else MAX_MODULE_LINES
        if lines > limit:
            found.append(f"{path}:1: {lines} lines, at most {limit}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}")
                count = _positional_count(node)
                if count > MAX_POSITIONAL_PARAMETERS:
                    found.append(f"{path}:{node.lineno}: {node.name} has {count} positional parameters")
    return found


def _positional_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len(names) - (1 if names[:1] in (["self"], ["cls"]) else 0)


def pure_market(root: Path) -> list[str]:
    """`market` imports only the pure part of the standard library, msgspec and itself, and opens nothing."""
    found = []
    for path, tree, _ in modules(root, ("market",)):
        for line, name in _imports(tree):
            if name.split(".")[0] not in PURE_MODULES | {"market"}:
                found.append(f"{path}:{line}: market may not import {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print"):
                found.append(f"{path}:{node.lineno}: market does no I/O ({node.func.id})")
    return found


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def no_import_of_proofs(root: Path) -> list[str]:
    """No package imports `tests` or `bench`."""
    return [
        f"{path}:{line}: imports {name}"
        for path, tree, _ in modules(root)
        for line, name in _imports(tree)
        if name.split(".")[0] in ("tests", "bench")
    ]


def one_clock(root: Path) -> list[str]:
    """The machine's clock and randomness are asked in `runtime/clock.py` alone."""
    found = []
    for path, tree, _ in modules(root):
        if path == CLOCK_FILE:
            continue
        imported = {name for _, name in _imports(tree)}
        for node in ast.walk(tree):
            reason = _asks_the_machine(node, imported)
            if reason:
                found.append(f"{path}:{getattr(node, 'lineno', 1)}: {reason} belongs into {CLOCK_FILE}")
    return found


def _asks_the_machine(node: ast.AST, imported: set[str]) -> str:
    """What the node asks of the machine's clock or dice; empty for everything else.

    `random.Random` as a type is allowed, making one is not.
    """
    if isinstance(node, ast.ImportFrom) and node.module in ("time", "random"):
        banned = CLOCK_CALLS if node.module == "time" else {alias.name for alias in node.names} - {"Random"}
        names = sorted(alias.name for alias in node.names if alias.name in banned)
        return f"from {node.module} import {', '.join(names)}" if names else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Random":
        return "Random()"
    if isinstance(node, ast.Call) and not node.args and _dotted(node.func).endswith("default_rng"):
        return "default_rng() without a seed"
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    owner, name = _dotted(node.func.value), node.func.attr
    wrong = (
        (owner == "time" and name in CLOCK_CALLS)
        or (owner == "random" and "random" in imported)
        or (owner.split(".")[-1] in ("datetime", "date") and name in DATETIME_CALLS)
        or (owner.endswith("timezone") and name == "now")
    )
    return f"{owner}.{name}()" if wrong else ""


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def exact_names(root: Path) -> list[str]:
    """No module or package whose name says nothing."""
    return [
        f"{path}:1: the name {part!r} says nothing"
        for path, _, _ in modules(root, (*PACKAGES, "bench"))
        for part in Path(path).with_suffix("").parts
        if part.lower() in VAGUE_NAMES
    ]


def docstrings(root: Path) -> list[str]:
    """Every public module, class and function says what it is; overriding dunders and nested functions need not."""
    found = []
    for path, tree, text in modules(root):
        if text.strip() and not ast.get_docstring(tree):
            found.append(f"{path}:1: module without a docstring")
        found += [f"{path}:{line}: {name} without a docstring" for line, name in _undocumented(tree)]
    return found


def _undocumented(scope: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
    for node in scope.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or node.name in FRAMEWORK_NAMES or _is_overload(node):
            continue
        if not ast.get_docstring(node):
            yield node.lineno, node.name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node)


def _is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    marks = {_dotted(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in node.decorator_list}
    return bool(marks & {"overload", "override", "setter"})


def topics_declared_once(root: Path) -> list[str]:
    """Topic names stand in `kafka/topics.toml`; code says `topics.kline_1s.name`.

    Some names are also names of streams, tables or fields of `Topics`, so a literal is judged by where it stands: it is
    never the topic of a broker call, and never what a record's topic is compared with.
    """
    names = set(tomllib.loads((root / "kafka" / "topics.toml").read_text("utf-8")))
    found = []
    for path, tree, _ in modules(root, (*PACKAGES, "bench")):
        for node in ast.walk(tree):
            literals: list[ast.expr] = []
            if isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] in TOPIC_CALLS:
                literals = node.args[:1]
            elif isinstance(node, ast.Compare) and _dotted(node.left).endswith(".topic"):
                literals = node.comparators
            found += [
                f"{path}:{node.lineno}: the topic {literal.value!r} as a literal"
                for literal in literals
                if isinstance(literal, ast.Constant) and literal.value in names
            ]
    return found


def no_excuses(root: Path) -> list[str]:
    """No unfinished work, and no check switched off without a reason on the same line."""
    found = []
    for path, _, text in modules(root, (*PACKAGES, "bench")):
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
                found.append(f"{path}:{number}: unfinished work")
            if re.search(r"#\s*noqa(?!:)|#\s*type:\s*ignore(?!\[)", line):
                found.append(f"{path}:{number}: a check switched off without naming which")
    return found


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        budgets,
        pure_market,
        no_import_of_proofs,
        one_clock,
        exact_names,
        docstrings,
        topics_declared_once,
        no_excuses,
    )
}
