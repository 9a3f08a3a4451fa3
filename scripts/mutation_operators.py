"""The changes that mutation testing makes to a contract, for scripts/mutate-contracts: one at a time, found in solc's
syntax tree, which says of everything at which bytes of the source it stands.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutants"]

Node = Mapping[str, Any]

COMPARISONS = {
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
}
"""The same with the other answer at equality, and the opposite."""
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="}
LOGIC = {"&&": "||", "||": "&&"}
ORDERED = ("-", "/", "%")
"""Where it matters which operand comes first."""
STEPS = {"++": "--", "--": "++"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one place of a source."""

    operator: str
    where: str
    """The function or constant, as `Contract.function`."""
    line: int
    start: int
    end: int
    """The bytes that are replaced."""
    replacement: str
    before: str
    after: str
    """The lines in which they stand, without line breaks and indentation."""

    def source(self, original: bytes) -> str:
        """The whole changed source."""
        return (original[: self.start] + self.replacement.encode() + original[self.end :]).decode()

    def __str__(self) -> str:
        return f"line {self.line}, {self.where}, {self.operator}: {self.before} -> {self.after or 'nothing'}"


def mutants(source: bytes, tree: Node, contract: str) -> list[Mutant]:
    """All mutants of a contract in the order of their places, no text twice."""
    (definition,) = (node for node in tree["nodes"] if node.get("name") == contract)
    found: dict[tuple[int, int, str], Mutant] = {}
    for part in definition["nodes"]:
        if part["nodeType"] not in ("FunctionDefinition", "ModifierDefinition", "VariableDeclaration"):
            continue
        where = f"{contract}.{part['name'] or part['kind']}"
        for change in _Finder(source).changes(part):
            found.setdefault(change[1:], _mutant(source, where, *change))
    return [found[place] for place in sorted(found)]


def _mutant(source: bytes, where: str, operator: str, start: int, end: int, replacement: str) -> Mutant:
    first, last = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    before = source[first:last].decode()
    after = source[first:start].decode() + replacement + source[end:last].decode()
    line = source.count(b"\n", 0, start) + 1
    return Mutant(operator, where, line, start, end, replacement, " ".join(before.split()), " ".join(after.split()))


Change = tuple[str, int, int, str]
"""An operator, the bytes that it replaces, and by what."""


class _Finder:
    """Finds what can be changed below a node."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._operators: dict[str, Callable[[Node], Iterator[Change]]] = {
            "Assignment": self._assignment,
            "BinaryOperation": self._binary,
            "Conditional": self._ternary,
            "EmitStatement": self._drop,
            "ExpressionStatement": self._drop,
            "FunctionCall": self._zero_bytes,
            "IfStatement": self._if,
            "Literal": self._literal,
            "ModifierInvocation": self._modifier,
            "Return": self._drop,
            "UnaryOperation": self._unary,
            "UncheckedBlock": self._unchecked,
        }

    def changes(self, node: Node) -> Iterator[Change]:
        """All changes at a node and below it; types, such as the length of an array, stay as they are."""
        if operator := self._operators.get(node["nodeType"]):
            yield from operator(node)
        children = {key: value for key, value in node.items() if key not in ("typeName", "documentation")}
        if _is_guard(node):
            children["trueBody"] = _expressions(node["trueBody"])
        for child in children.values():
            for each in child if isinstance(child, list) else [child]:
                if isinstance(each, dict) and "nodeType" in each:
                    yield from self.changes(each)

    def _binary(self, node: Node) -> Iterator[Change]:
        operator = node["operator"]
        left, right = self._operand(node["leftExpression"]), self._operand(node["rightExpression"])

        def instead(kind: str, text: str) -> Change:
            start, end = _span(node)
            enclosed = self._source[start - 1 : start] == b"(" and self._source[end : end + 1] == b")"
            return kind, start, end, text if enclosed else f"({text})"

        for other in COMPARISONS.get(operator, ()):
            yield instead("comparison", f"{left} {other} {right}")
        if operator in MIRRORED:
            yield instead("operands", f"{left} {MIRRORED[operator]} {right}")
        if operator in ARITHMETIC:
            yield instead("arithmetic", f"{left} {ARITHMETIC[operator]} {right}")
        if operator in ORDERED:
            yield instead("operands", f"{right} {operator} {left}")
        if operator in LOGIC:
            yield instead("logic", f"{left} {LOGIC[operator]} {right}")
            yield instead("one side", left)
            yield instead("one side", right)

    def _assignment(self, node: Node) -> Iterator[Change]:
        operator = node["operator"]
        left, right = self._text(node["leftHandSide"]), self._text(node["rightHandSide"])
        if operator in ARITHMETIC:
            yield "arithmetic", *_span(node), f"{left} {ARITHMETIC[operator]} {right}"
            yield "arithmetic", *_span(node), f"{left} = {right}"

    def _unary(self, node: Node) -> Iterator[Change]:
        operator, operand = node["operator"], self._text(node["subExpression"])
        if operator == "!":
            yield "condition", *_span(node), operand
        elif operator in STEPS:
            yield "arithmetic", *_span(node), STEPS[operator] + operand

    def _ternary(self, node: Node) -> Iterator[Change]:
        for branch in ("trueExpression", "falseExpression"):
            yield "ternary", *_span(node), f"({self._text(node[branch])})"

    def _if(self, node: Node) -> Iterator[Change]:
        condition = node["condition"]
        if condition.get("operator") not in (*COMPARISONS, "!"):  # which are turned round where they stand
            yield "condition", *_span(condition), f"!({self._text(condition)})"
        if node.get("falseBody") is None:
            yield "drop", *_span(node), ""
        else:
            for branch in ("trueBody", "falseBody"):
                yield "drop", *_span(node), self._text(node[branch])

    def _drop(self, node: Node) -> Iterator[Change]:
        start, end = _span(node)
        # The tree leaves a statement's semicolon out; the step of a loop has none.
        yield "drop", start, end + self._source[end:].startswith(b";"), ""

    def _modifier(self, node: Node) -> Iterator[Change]:
        if node["kind"] == "modifierInvocation":
            yield "modifier", *_span(node), ""

    def _unchecked(self, node: Node) -> Iterator[Change]:
        start, _ = _span(node)
        yield "unchecked", start, start + len("unchecked"), ""

    def _literal(self, node: Node) -> Iterator[Change]:
        text = self._text(node)
        if node["kind"] == "bool":
            yield "constant", *_span(node), {"true": "false", "false": "true"}[text]
        elif node["kind"] == "string":
            yield "constant", *_span(node), text[:-1] + "x" + text[-1]
        elif node["kind"] == "number":
            yield "constant", *_span(node), f"({text} + 1)" if text != "0" else "1"
            if text != "0":
                yield "constant", *_span(node), f"({text} - 1)"

    def _zero_bytes(self, node: Node) -> Iterator[Change]:
        """`bytes32(0)` is the only number that converts to bytes just like that."""
        kind = node["expression"]["typeDescriptions"]["typeString"]
        if node["kind"] == "typeConversion" and kind.startswith("type(bytes") and self._text(node).endswith("(0)"):
            size = int(kind.removeprefix("type(bytes").removesuffix(")"))
            yield "constant", *_span(node), f"bytes{size}(uint{8 * size}(1))"

    def _operand(self, node: Node) -> str:
        """The text, so that it stays one operand beside any operator."""
        text = self._text(node)
        return f"({text})" if node["nodeType"] in ("BinaryOperation", "Conditional") else text

    def _text(self, node: Node) -> str:
        start, end = _span(node)
        return self._source[start:end].decode()


def _span(node: Node) -> tuple[int, int]:
    start, length, _ = map(int, node["src"].split(":"))
    return start, start + length


def _is_guard(node: Node) -> bool:
    """Whether a node is `if (condition) { statement; }`: without its statement it does nothing."""
    if node["nodeType"] != "IfStatement" or node.get("falseBody") is not None:
        return False
    return len(node["trueBody"].get("statements", ())) == 1


def _expressions(block: Node) -> list[Node]:
    """What is below the one statement of a guard, but not the statement itself."""
    (statement,) = block["statements"]
    if statement["nodeType"] == "RevertStatement":
        return [statement["errorCall"]]
    return [statement[key] for key in ("expression", "eventCall") if isinstance(statement.get(key), dict)]
