"""A formula as a SymPy expression: Python's and SymPy's own forms by `ast`, LaTeX by math-verify's parser.

Nothing is evaluated as code. Runs in the child of `score_distill.agent.mathematics`, which bounds time and memory.
"""

import ast
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy  # type: ignore[import-untyped]

from score_distill.agent.grading.vocabulary import GREEK, GREEK_LETTERS

_NAMESAKES = """
    sin cos tan cot sec csc asin acos atan sinh cosh tanh coth sech csch asinh acosh atanh sign re im conjugate
    gamma zeta
"""
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": sympy.sqrt,
    "cbrt": sympy.cbrt,
    "root": sympy.root,
    "exp": sympy.exp,
    "log": sympy.log,
    "ln": sympy.log,
    "lg": lambda x: sympy.log(x, 10),
    "log10": lambda x: sympy.log(x, 10),
    "log2": lambda x: sympy.log(x, 2),
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "abs": sympy.Abs,
    "max": sympy.Max,
    "min": sympy.Min,
    "floor": sympy.floor,
    "ceil": sympy.ceiling,
    "ceiling": sympy.ceiling,
    "factorial": sympy.factorial,
    "binomial": sympy.binomial,
    "binom": sympy.binomial,
    "comb": sympy.binomial,
    "gcd": sympy.gcd,
    "lcm": sympy.lcm,
    "mod": sympy.Mod,
    "pow": sympy.Pow,
    "fraction": lambda over, under=1: over / under,
    "rational": lambda over, under=1: over / under,
} | {name: getattr(sympy, name) for name in _NAMESAKES.split()}
_CONSTANTS = {"pi": sympy.pi, "π": sympy.pi, "e": sympy.E, "E": sympy.E, "i": sympy.I, "I": sympy.I, "∞": sympy.oo}
_CONSTANTS |= dict.fromkeys(("oo", "inf", "infinity", "Infinity", "infty"), sympy.oo)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?[jJ]?(?![A-Za-z]*\d)|\d+\.?\d*)|(?P<name>[^\W\d_](?:[^\W\d_]*)(?:_\{\w+\}|_\d+|_[^\W\d]\w*|\d+)?)|(?P<sign>\*\*|[-+*/^(),!|%√]))"
)
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.Mod: sympy.Mod,
}
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*°")
_ANGLED = re.compile(r"sin|cos|tan|cot|sec|csc")
_MOST_NODES = 500


class Unreadable(ValueError):
    """A text that is no expression."""


def expression(source: str) -> Any:
    """The expression that a formula is. Raises Unreadable, or what SymPy raises on what has no value."""
    source = _DEGREES.sub(r"(\1*π/180)", source) if _ANGLED.search(source) else source.replace("°", "")
    found = _from_latex(source) if "\\" in source else _from_python(source)
    if not isinstance(found, sympy.Basic):
        raise Unreadable(source)
    return found.subs({symbol: _symbol(symbol.name) for symbol in found.free_symbols})


def _symbol(name: str) -> Any:
    name = re.sub(r"[\\{}_' ]", "", name)
    name = re.sub(r"^(?:text|mathrm)", "", name).replace("lambda", "lamda") or name
    return _CONSTANTS.get(name) or sympy.Symbol(name)


def _from_latex(source: str) -> Any:
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex  # type: ignore[import-untyped]
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]

    source = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", source).replace("**", "^").replace("*", r" \cdot ")
    source = source.replace("√", r"\sqrt ").replace("π", r"\pi ").replace("∞", r"\infty ").replace("→", r"\to ")
    source = re.sub(r"0?\.\\overline\{(\d+)\}", lambda found: rf"\frac{{{found[1]}}}{{{'9' * len(found[1])}}}", source)
    form = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
    )
    found = latex2sympy(normalize_latex(source, form), conversion_config=ConversionConfig(lowercase_symbols=False))
    return _exact(found.doit() if hasattr(found, "doit") else found)


def _exact(found: Any) -> Any:
    """Decimals as the fractions they say."""
    if not isinstance(found, sympy.Basic):
        return found
    return found.replace(lambda one: isinstance(one, sympy.Float), lambda one: sympy.Rational(str(one)))


def _from_python(source: str) -> Any:
    source = source.replace("∞", " oo ")
    text = re.sub(r"\|([^|]+)\|", r"abs(\1)", re.sub(r"\^\{([^{}]*)\}", r"^(\1)", source))
    code = _with_products(_tokens(text))
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(source) from error
    if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
        raise Unreadable(source)
    return sympy.sympify(_value(tree.body))


def _tokens(text: str) -> list[str]:
    """The numbers, names and signs of a text; letters that stand together and are no name are a product."""
    found: list[str] = []
    at = 0
    text = text.strip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            raise Unreadable(text)
        at = token.end()
        if name := token["name"]:
            name = re.sub(r"[{}]|(?<=lam)b(?=da)", "", "".join(GREEK_LETTERS.get(letter, letter) for letter in name))
            if name.isalpha() and len(name) > 1 and not _is_name(name):
                if len(name) > 3 or not name.islower():
                    raise Unreadable(text)
                found += list(name)
            else:
                found.append(name)
        else:
            found.append(token[token.lastgroup or "sign"])
    return found


def _is_name(name: str) -> bool:
    return name in _CONSTANTS or name.casefold() in _FUNCTIONS or name.casefold() in GREEK


def _with_products(tokens: list[str]) -> str:
    """Python of the tokens: with the products that are not written, powers, roots and factorials."""
    made: list[str] = []
    opened: list[int] = []
    root = False
    for at, token in enumerate(tokens):
        if token == "√":
            if made and _ends_operand(made[-1]):
                made.append("*")
            made.append("sqrt")
            root = True
            continue
        if token == "!":
            if tokens[at - 1 : at] == ["!"]:
                raise Unreadable("!!")
            start = _operand(made)
            made[start:] = ["factorial", "(", *made[start:], ")"]
            continue
        if token == "%":
            made += ["/", "100"]
            continue
        starts = token == "(" or token[0].isalnum() or token[0] == "."
        if starts and made and _ends_operand(made[-1]) and not (token == "(" and _calls(made[-1])) and not root:
            made.append("*")
        if root and token != "(":
            made += ["(", token, ")"]
        elif _calls(token) and token not in "fgh" and tokens[at + 1 : at + 2] not in (["("], ["**"], ["^"], []):
            made += [token]
            opened.append(len(made))
            made.append("(")
            root = False
            continue
        else:
            made.append("**" if token == "^" else token)
        root = False
        if opened and opened[-1] == len(made) - 2:
            opened.pop()
            made.append(")")
    return "".join(made)


def _ends_operand(token: str) -> bool:
    return token == ")" or token[-1].isalnum() or token[-1] == "."


def _calls(name: str) -> bool:
    return name.casefold() in _FUNCTIONS or name in "fgh"


def _operand(made: list[str]) -> int:
    """Where the last operand begins."""
    if not made:
        raise Unreadable("!")
    at, depth = len(made) - 1, 0
    while made[at] in ")(" or depth:
        depth += (made[at] == ")") - (made[at] == "(")
        if not depth:
            break
        at -= 1
        if at < 0:
            raise Unreadable("!")
    return at - 1 if at and made[at] == "(" and _calls(made[at - 1]) else at


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value=complex() as number):
            return sympy.Rational(Fraction(repr(number.imag))) * sympy.I
        case ast.Constant(value=bool()):
            raise Unreadable("a truth")
        case ast.Constant(value=int() as number):
            return sympy.Integer(number)
        case ast.Constant(value=float() as number):
            return sympy.Rational(Fraction(repr(number))) if abs(number) < 1e300 else sympy.oo
        case ast.Name(id=name):
            return _symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            values = list(map(_value, arguments))
            known = _FUNCTIONS.get(name) or _FUNCTIONS.get(name.casefold())
            return known(*values) if known else sympy.Function(name)(*values)
    raise Unreadable(type(node).__name__)
