"""What README and docs name must exist: files, make targets, commands, modules, variables, addresses.

Only code counts: `spans` and fenced blocks. Names in running text are free.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.architecture.source_rules import parsed

FENCE = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
FILE = re.compile(r"^\.?[\w./-]+\.(?:py|md|toml|ya?ml|properties|lock|in|sql|js|css|html|png|example|c|json)$")
FILE_AND_NAME = re.compile(r"^([\w./-]+\.py):([\w.]+)(?:\(\))?$")
MAKE = re.compile(r"\bmake ((?!sure\b)[a-z][\w-]*)")
COMMAND = re.compile(r"(?:^|\s|/)candlewire ([a-z][\w-]*)")
MODULE = re.compile(r"\bpython3? -m ([\w.]+)")
VARIABLE = re.compile(r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$")
ASSIGNED = re.compile(r"(?:^|\s)([A-Z][A-Z0-9_]+)=")
ADDRESS = re.compile(r"^(?:GET |POST )?(/[\w./<>*:@-]*)(?:\?.*)?$")


@dataclass(frozen=True)
class Facts:
    """What exists, for the documents to name."""

    root: Path
    files: frozenset[str]
    make_targets: frozenset[str]
    commands: frozenset[str]
    variables: frozenset[str]
    constants: frozenset[str]
    serves: Callable[[str], bool] = field(repr=False)
    modules: Callable[[str], bool] = field(repr=False)


def check(name: str, text: str, facts: Facts) -> list[str]:
    """Everything that the document `name` says and that does not exist."""
    found = []
    for line, code in _code(text):
        found += [f"{name}:{line}: {problem}" for problem in _problems(code, facts)]
    for match in LINK.finditer(text):
        target = (facts.root / name).parent / match.group(1)
        if not target.exists():
            found.append(f"{name}:{_line(text, match)}: link to {match.group(1)}")
    return found


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


def _code(text: str) -> Iterator[tuple[int, str]]:
    for fence in FENCE.finditer(text):
        for number, line in enumerate(fence.group(1).splitlines(), _line(text, fence) + 1):
            yield number, line.strip()
    without = FENCE.sub(lambda fence: "\n" * fence.group().count("\n"), text)
    for span in SPAN.finditer(without):
        yield _line(without, span), span.group(1).strip()


def _problems(code: str, facts: Facts) -> Iterator[str]:
    named = FILE_AND_NAME.match(code)
    if named:
        yield from _missing_name(named.group(1), named.group(2), facts)
    elif FILE.match(code) and not _is_file(code, facts):
        yield f"no file {code}"
    elif code.endswith("/") and re.fullmatch(r"[\w.-][\w./-]*/", code) and not _is_folder(code, facts):
        yield f"no folder {code}"
    for target in MAKE.findall(code):
        if target not in facts.make_targets:
            yield f"no make target {target}"
    for command in COMMAND.findall(code):
        if command not in facts.commands:
            yield f"no command candlewire {command}"
    for module in MODULE.findall(code):
        if not facts.modules(module):
            yield f"no module {module}"
    wanted = set(ASSIGNED.findall(code)) | ({code} if VARIABLE.match(code) else set())
    for variable in sorted(wanted - facts.variables - facts.constants):
        yield f"no variable {variable}"
    address = ADDRESS.match(code)
    if address and not facts.serves(address.group(1)):
        yield f"nothing serves {address.group(1)}"


def _is_file(name: str, facts: Facts) -> bool:
    return name in facts.files or ("/" not in name and any(file.endswith(f"/{name}") for file in facts.files))


def _is_folder(name: str, facts: Facts) -> bool:
    return any(file.startswith(name) or f"/{name}" in file for file in facts.files)


def _missing_name(file: str, dotted: str, facts: Facts) -> Iterator[str]:
    if not _is_file(file, facts):
        yield f"no file {file}"
        return
    scope: ast.AST = parsed((facts.root / file).read_text("utf-8"))
    for part in dotted.split("."):
        inner = next((node for node in ast.iter_child_nodes(scope) if getattr(node, "name", None) == part), None)
        if inner is None:
            yield f"no {dotted} in {file}"
            return
        scope = inner


def make_targets(makefile: str) -> frozenset[str]:
    """Targets of a Makefile."""
    return frozenset(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))


def make_variables(makefile: str) -> frozenset[str]:
    """Variables that a Makefile assigns."""
    return frozenset(re.findall(r"^([A-Z][A-Z0-9_]*)\s*[:?]?=", makefile, re.MULTILINE))


def constants(root: Path, files: frozenset[str]) -> frozenset[str]:
    """Names in capitals that the source binds at module or class level."""
    found = set()
    for name in files:
        if name.endswith(".py"):
            for node in ast.walk(parsed((root / name).read_text("utf-8"))):
                targets = node.targets if isinstance(node, ast.Assign) else []
                targets = [*targets, node.target] if isinstance(node, ast.AnnAssign) else targets
                found |= {target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper()}
    return frozenset(found)


def literal_paths(root: Path, packages: tuple[str, ...]) -> list[re.Pattern[str]]:
    """Every string literal of the packages that is an address, as a pattern; `<name>` and `{name}` match one part."""
    patterns = []
    for package in packages:
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(parsed(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/"):
                    parts = [
                        "[^/]+" if re.fullmatch(r"[<{].*[>}]", part) else re.escape(part)
                        for part in node.value.split("/")
                    ]
                    patterns.append(re.compile("/".join(parts) + "$"))
    return patterns
