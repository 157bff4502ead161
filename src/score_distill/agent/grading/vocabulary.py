"""The words by which a text is told to be mathematics, a measure or prose."""

from score_distill.agent.grading.values import Words

_FUNCTIONS = """
    sqrt cbrt root exp log ln lg log2 log10 sin cos tan cot sec csc asin acos atan arcsin arccos arctan sinh cosh tanh
    asinh acosh atanh sech csch coth abs max min floor ceil ceiling factorial binomial binom comb perm gcd lcm sign re
    im conjugate gamma zeta mod pow round fraction rational sum prod det tr
"""
_GREEK = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda lamda mu nu xi omicron rho sigma tau upsilon phi chi
    psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega varepsilon vartheta varphi
"""
_PROSE = """
    not no is are was were or and but because than then about around approximately maybe perhaps probably least most
    wrong right correct incorrect it this that so if when i we you he she they i'm answer be been to too also either
    neither nor true false none exactly guess think option choice
"""
_LETTERS = "αβγδεζηθικλμνξορστυφχψω"
_LETTER_NAMES = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron rho sigma tau upsilon phi chi psi
    omega
"""

FUNCTIONS = frozenset(_FUNCTIONS.split())
CONSTANTS = frozenset(("pi", "oo", "inf", "infinity", "infty", "nan", "e", "i"))
GREEK = frozenset(_GREEK.split())
GREEK_LETTERS = dict(zip(_LETTERS, _LETTER_NAMES.split(), strict=True))
PROSE = frozenset(_PROSE.split())
NAMED_SETS = dict.fromkeys(("ℝ", "reals", "s.reals", "all real numbers", "all reals"), Words("ℝ")) | dict.fromkeys(
    ("∅", "emptyset", "s.emptyset", "empty set"), Words("∅")
)
NAMED_SETS |= {"dne": Words("does not exist"), "no solutions": Words("no solution")}
NAMED_SETS |= {"no real solutions": Words("no real solution")}
