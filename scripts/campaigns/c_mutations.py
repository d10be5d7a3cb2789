"""Small mistakes to make in C sources: what a tired programmer, or a careless edit, might do to them.

Works on the tokens of any text in the style of csrc/ (blanks around binary operators), and knows nothing of what
the files contain today. What it proposes need not compile; whoever compiles finds out.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = re.compile(
    r"(?P<number>0[xX][0-9a-fA-F.]+(?:[pP][-+]?\d+)?[uUlLfF]*|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[uUlLfF]*)"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|##|[^\s\w])"
)
OTHERS = {
    "+": ("-",), "-": ("+",), "*": ("+",), "/": ("*",), "%": ("/",),
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "&&": ("||",), "||": ("&&",), "&": ("|",), "|": ("&",), "^": ("|",), "<<": (">>",), ">>": ("<<",),
    "+=": ("-=",), "-=": ("+=",), "*=": ("+=",), "/=": ("*=",), "|=": ("&=",), "&=": ("|=",), "^=": ("|=",),
}  # fmt: skip
"""Binary operators, and those that are easily taken for them."""
KEYWORDS = frozenset(["return", "case", "else", "goto", "sizeof", "do"])
DECLARING = KEYWORDS | {
    "const", "static", "struct", "enum", "union", "typedef", "extern", "float", "double", "int", "char", "unsigned",
    "signed", "void", "INLINE", "break", "continue", "default", "if", "for", "while", "switch",
}  # fmt: skip
"""First words of what is no assignment and no call."""
DECLARED = re.compile(r"\w\s+\*?\w")
"""A type and a name: an argument that is declared, not given."""
HINT = re.compile(r"prefetch|madvise|__builtin_expect|clock_start|clock_add|static_assert|GCC unroll|pragma")
"""What tells the machine or the compiler something and changes no result, and time measurements."""


class Mutation(NamedTuple):
    """One mistake: ``text[begin:end]`` of a file becomes ``replacement``."""

    kind: str
    begin: int
    end: int
    replacement: str

    def apply(self, text: str) -> str:
        """Return the text with the mistake."""
        return text[: self.begin] + self.replacement + text[self.end :]

    def describe(self, text: str) -> str:
        """Return the line or lines that are changed, before and after, with blanks made single."""
        first = text.rfind("\n", 0, self.begin) + 1
        last = text.find("\n", self.end)
        before, after = text[first:last], text[first : self.begin] + self.replacement + text[self.end : last]
        return f"{' '.join(before.split())}  ->  {' '.join(after.split())}"


class Token(NamedTuple):
    """A word, number or sign, and where it is."""

    kind: str
    text: str
    begin: int
    end: int


def find(text: str) -> list[Mutation]:
    """Return every mistake that this module knows how to make in a C source, in the order of places."""
    code = _blank_out(text)
    tokens = [Token(str(m.lastgroup), m.group(), m.start(), m.end()) for m in TOKEN.finditer(code)]
    found = [
        *_operators(tokens, code),
        *_constants(tokens),
        *_indices(tokens, code),
        *_statements(tokens, code),
        *_operands(tokens, code),
    ]
    return sorted({mutation for mutation in found if not HINT.search(_line(code, mutation))}, key=lambda m: m[1:])


def _line(code: str, mutation: Mutation) -> str:
    """Return the line of a mutation and the one after it, which may be the body of its loop or condition."""
    return code[code.rfind("\n", 0, mutation.begin) + 1 : code.find("\n", code.find("\n", mutation.end) + 1)]


def _blank_out(text: str) -> str:
    """Make blanks of comments, literals and directives but for the bodies of macros; places stay."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    text = re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", blank, text, flags=re.DOTALL)
    text = re.sub(r"^[ \t]*#[ \t]*(?!define\b)\w+(?:\\\n|[^\n])*", blank, text, flags=re.MULTILINE)
    text = re.sub(r"^[ \t]*#[ \t]*define[ \t]+\w+(?:\([^)]*\))?", blank, text, flags=re.MULTILINE)
    return text.replace("\\\n", " \n")


def _operators(tokens: list[Token], code: str) -> Iterator[Mutation]:
    """Another operator; a sign left out."""
    for before, token in pairwise(tokens):
        if token.text not in OTHERS:
            continue
        apart = code[token.begin - 1].isspace() and code[token.end : token.end + 1].isspace()
        if apart:
            for other in OTHERS[token.text]:
                yield Mutation("operator", token.begin, token.end, other)
        elif token.text == "-" and (before.text in "(,=?:[" or before.text in OTHERS or before.text == "return"):
            yield Mutation("sign", token.begin, token.end, " ")


def _constants(tokens: list[Token]) -> Iterator[Mutation]:
    """One more and one less; a hundredth more."""
    for token in tokens:
        if token.kind != "number":
            continue
        hexadecimal = token.text[:2].lower() == "0x"
        digits = token.text.rstrip("uUlL" if hexadecimal else "uUlLfF")
        suffix = token.text[len(digits) :]
        if not re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", digits):
            changed = "1.0" if not digits.strip("0.") else f"({token.text} * 1.01{suffix})"
            yield Mutation("constant", token.begin, token.end, changed)
            continue
        value = int(digits, 16 if hexadecimal else 10)
        yield Mutation("constant", token.begin, token.end, f"{value + 1}{suffix}")
        if value:
            yield Mutation("constant", token.begin, token.end, f"{value - 1}{suffix}")


def _closing(tokens: list[Token], opening: int) -> int:
    """Return the place of the token that closes a bracket."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += tokens[i].text in "([{"
        depth -= tokens[i].text in ")]}"
        if not depth:
            return i
    return opening


def _indices(tokens: list[Token], code: str) -> Iterator[Mutation]:
    """An index off by one; an array that is too short by one."""
    for i in range(2, len(tokens)):
        end = _closing(tokens, i)
        if tokens[i].text != "[" or tokens[i - 1].kind != "name" or end <= i + 1:
            continue
        declared = tokens[i - 2].kind == "name" and tokens[i - 2].text not in KEYWORDS
        begin, inside = tokens[i].end, code[tokens[i].end : tokens[end].begin]
        for change in (" - 1",) if declared else (" + 1", " - 1"):
            yield Mutation("index", begin, tokens[end].begin, f"({inside}){change}")


def _statements(tokens: list[Token], code: str) -> Iterator[Mutation]:
    """A statement left out: an assignment or a call."""
    depth = 0  # of parentheses: the parts of a for are no statements
    for i in range(1, len(tokens) - 1):
        first, second = tokens[i], tokens[i + 1]
        depth += (tokens[i - 1].text == "(") - (tokens[i - 1].text == ")")
        if depth or tokens[i - 1].text not in ("{", "}", ";", ")") or first.text in DECLARING:
            continue
        if (first.kind != "name" and first.text != "*") or second.kind == "name" or second.text in ("*", ":", ","):
            continue
        end = i
        while end < len(tokens) and tokens[end].text not in ";{}":
            end = _closing(tokens, end) + 1 if tokens[end].text in "([" else end + 1
        ended = end < len(tokens) and tokens[end].text == ";"
        if ended and re.search(r"=|\(|\+\+|--", code[first.begin : tokens[end].begin]):
            yield Mutation("statement", first.begin, tokens[end].begin, "")


def _operands(tokens: list[Token], code: str) -> Iterator[Mutation]:
    """Operands of a difference, quotient or comparison, or the first two arguments of a call, the other way round."""
    for i in range(2, len(tokens) - 2):
        left, sign, right, after = tokens[i - 1], tokens[i], tokens[i + 1], tokens[i + 2]
        simple = left.kind in ("name", "number") and right.kind in ("name", "number")
        alone = tokens[i - 2].text not in (".", "->") and after.text not in ("(", "[", ".", "->")
        if sign.text in ("-", "/", "%", "<", ">", "<<", ">>") and simple and alone:
            yield Mutation("operands", left.begin, right.end, f"{right.text} {sign.text} {left.text}")
        if left.kind == "name" and sign.text == "(" and left.text not in DECLARING and "fma" not in left.text:
            end, commas = _closing(tokens, i), []
            place = i + 1
            while place < end:
                commas += [place] if tokens[place].text == "," else []
                place = _closing(tokens, place) + 1 if tokens[place].text in "([{" else place + 1
            if commas:
                last = tokens[commas[1] if len(commas) > 1 else end].begin
                one = code[sign.end : tokens[commas[0]].begin].strip()
                two = code[tokens[commas[0]].end : last].strip()
                if one != two and not DECLARED.search(f"{one}, {two}"):
                    yield Mutation("arguments", sign.end, last, f"{two}, {one}")
