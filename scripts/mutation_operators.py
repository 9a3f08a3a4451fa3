"""The changes that mutation testing makes to a contract, for scripts/mutate-contracts: one at a time, found in solc's
syntax tree, which says of everything at which bytes of the source it stands.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["Form", "Mutant", "mutants"]

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


class Form(Enum):
    """What kind of thing is replaced, by the same kind of thing or by nothing."""

    EXPRESSION = "expression"
    STATEMENT = "statement"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one place of a source."""

    operator: str
    form: Form
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
        for operator, form, start, end, text in _Finder(source).changes(part):
            if part["nodeType"] == "VariableDeclaration":  # whose value must be known to the compiler
                form = Form.OTHER
            found.setdefault((start, end, text), _mutant(source, operator, form, where, start, end, text))
    return [found[place] for place in sorted(found)]


def _mutant(source: bytes, operator: str, form: Form, where: str, start: int, end: int, replacement: str) -> Mutant:
    first, last = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
    before = source[first:last].decode()
    after = source[first:start].decode() + replacement + source[end:last].decode()
    line = source.count(b"\n", 0, start) + 1
    return Mutant(
        operator, form, where, line, start, end, replacement, " ".join(before.split()), " ".join(after.split())
    )


Change = tuple[str, Form, int, int, str]
"""An operator, what it replaces, at which bytes, and by what."""


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
            "FunctionCall": self._conversion,
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
        if _is_conversion(node):
            return
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
            return kind, Form.EXPRESSION, start, end, text if enclosed else f"({text})"

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
            yield "arithmetic", Form.EXPRESSION, *_span(node), f"{left} {ARITHMETIC[operator]} {right}"
            yield "arithmetic", Form.EXPRESSION, *_span(node), f"{left} = {right}"

    def _unary(self, node: Node) -> Iterator[Change]:
        operator, operand = node["operator"], self._text(node["subExpression"])
        if operator == "!":
            yield "condition", Form.EXPRESSION, *_span(node), operand
        elif operator in STEPS:
            yield "arithmetic", Form.EXPRESSION, *_span(node), STEPS[operator] + operand

    def _ternary(self, node: Node) -> Iterator[Change]:
        for branch in ("trueExpression", "falseExpression"):
            yield "ternary", Form.EXPRESSION, *_span(node), f"({self._text(node[branch])})"

    def _if(self, node: Node) -> Iterator[Change]:
        condition = node["condition"]
        if condition.get("operator") not in (*COMPARISONS, "!"):  # which are turned round where they stand
            yield "condition", Form.EXPRESSION, *_span(condition), f"!({self._text(condition)})"
        if node.get("falseBody") is None:
            yield "drop", Form.STATEMENT, *_span(node), ""
        else:
            for branch in ("trueBody", "falseBody"):
                yield "drop", Form.STATEMENT, *_span(node), self._text(node[branch])

    def _drop(self, node: Node) -> Iterator[Change]:
        start, end = _span(node)
        # The tree leaves a statement's semicolon out; the step of a loop has none.
        if self._source[end:].startswith(b";"):
            yield "drop", Form.STATEMENT, start, end + 1, ""
        else:
            yield "drop", Form.OTHER, start, end, ""

    def _modifier(self, node: Node) -> Iterator[Change]:
        if node["kind"] == "modifierInvocation":
            yield "modifier", Form.OTHER, *_span(node), ""

    def _unchecked(self, node: Node) -> Iterator[Change]:
        start, _ = _span(node)
        yield "unchecked", Form.OTHER, start, start + len("unchecked"), ""

    def _literal(self, node: Node) -> Iterator[Change]:
        text = self._text(node)
        if node["kind"] == "bool":
            yield "constant", Form.EXPRESSION, *_span(node), {"true": "false", "false": "true"}[text]
        elif node["kind"] == "string":
            yield "constant", Form.OTHER, *_span(node), text[:-1] + "x" + text[-1]
        elif node["kind"] == "number":
            for number in _neighbours(text):
                yield "constant", Form.EXPRESSION, *_span(node), number

    def _conversion(self, node: Node) -> Iterator[Change]:
        """`bytes32(0)` and `address(0)`: other numbers convert by other ways."""
        if _is_conversion(node):
            kind, text = self._text(node["expression"]), self._text(node["arguments"][0])
            for number in _neighbours(text):
                fitting = f"uint{8 * int(kind.removeprefix('bytes'))}({number})" if kind != "address" else number
                yield "constant", Form.EXPRESSION, *_span(node), f"{kind}({fitting})"

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


def _neighbours(number: str) -> list[str]:
    return ["1"] if number == "0" else [f"({number} + 1)", f"({number} - 1)"]


def _is_conversion(node: Node) -> bool:
    """Whether a node turns a number that stands there into bytes or an address."""
    if node["nodeType"] != "FunctionCall" or node["kind"] != "typeConversion":
        return False
    kind = node["expression"]["typeDescriptions"]["typeString"]
    return kind.startswith(("type(bytes", "type(address")) and node["arguments"][0].get("kind") == "number"


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
