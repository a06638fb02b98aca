"""Exponentials, logarithms, tanh and erf in LLVM's language.

They take the place of the C mathematics library where several numbers need the same function: they
have no branches, so LLVM carries them out side by side, and a layer of a network takes a fifth of
the time. Each is right to 2 units in the last place, for all numbers, the infinities and NaN.

Sources: W. J. Cody & W. Waite, Software Manual for the Elementary Functions, 1980 (the reduction of
the argument in two parts); P. T. P. Tang, ACM TOMS 15 (1989) 144-157 and 16 (1990) 378-400.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .instructions import Body, vector_type

# Added to a double below 2^51, it rounds the number to an integer, which is then in its last bits.
_ROUNDER = 6755399441055744.0  # 1.5 * 2^52
_ROUNDER_BITS = 0x4338000000000000
_ONE_BITS = 0x3FF0000000000000
_LOG2_E = 1.4426950408889634
# log 2 in two parts; the first has 33 bits, so that its products with exponents are exact.
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
# (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2, to 2e-18: by Remez' algorithm.
_EXP = (
    0.5,
    0.1666666666666667,
    0.041666666666666685,
    0.008333333333326136,
    0.0013888888888874415,
    0.00019841269874818924,
    2.48015873472931e-05,
    2.7557255402374484e-06,
    2.75572529649361e-07,
    2.510521613746728e-08,
    2.092156943412959e-09,
)
# (log((1 + s) / (1 - s)) / s - 2) / s^2 as a polynomial of s^2 for |s| <= 0.1716, to 3e-16.
_LOG = (
    0.666666666666667,
    0.39999999999898384,
    0.28571428626426704,
    0.22222211068364023,
    0.18182893544023435,
    0.15331586175176995,
    0.14618005713160087,
)
# erf(x) / x - 1 as a polynomial of x^2 for |x| <= 1, to 7e-18.
_ERF = (
    0.12837916709551256,
    -0.3761263890318355,
    0.11283791670945242,
    -0.02686617064327449,
    0.005223977607409141,
    -0.0008548325989002246,
    0.00012055295299477894,
    -1.4924744254648118e-05,
    1.644751257182746e-06,
    -1.6209136307158703e-07,
    1.372280274171606e-08,
    -7.800860752707067e-10,
)
# exp(x^2) erfc(x) as a polynomial of (x - 2) / (x + 2) for x from 1 to 6, to 6e-19 exp(x^2).
_ERFC = (
    0.25539567631050575,
    -0.4271858474139568,
    0.2416581942424688,
    -0.0789785810164164,
    0.003732892398537502,
    0.006997461785736312,
    -0.0008471425900369644,
    -0.0009819764807223927,
    4.353614281078688e-05,
    0.00017428844348805299,
    2.7623323648497975e-05,
    -2.6610951443441788e-05,
    -1.2643573878737604e-05,
)
_SQRT_HALF_BITS = 0x3FE6A09E00000000
_MANTISSA = 0x000FFFFFFFFFFFFF
_SMALLEST_NORMAL = 2.2250738585072014e-308
_INFINITY = float("inf")


class _Writer:
    """Instructions on doubles and on their bits, or on vectors of them.

    lanes: the length of the vectors, or 1.
    """

    def __init__(self, body: Body, lanes: int) -> None:
        self.body = body
        self.lanes = lanes
        self.real_type = vector_type("double", lanes)
        self.bits_type = vector_type("i64", lanes)

    def number(self, x: float | str) -> str:
        """The operand of a number or of a result."""
        if isinstance(x, str):
            return x
        return self._repeated("double", self.body.constant(x, "real"))

    def _repeated(self, type_: str, text: str) -> str:
        if self.lanes == 1:
            return text
        return f"<{', '.join([f'{type_} {text}'] * self.lanes)}>"

    def real(self, name: str, a: float | str, b: float | str) -> str:
        """fadd, fsub, fmul or fdiv."""
        return self.body.value(f"{name} {self.real_type} {self.number(a)}, {self.number(b)}")

    def negative(self, a: str) -> str:
        """-a."""
        return self.body.value(f"fneg {self.real_type} {a}")

    def whole(self, name: str, a: str, b: int) -> str:
        """An operation on bits, with a number."""
        return self.body.value(f"{name} {self.bits_type} {a}, {self._repeated('i64', str(b))}")

    def bits(self, a: str) -> str:
        """The bits of a double."""
        return self.body.value(f"bitcast {self.real_type} {a} to {self.bits_type}")

    def double(self, a: str) -> str:
        """The double with these bits."""
        return self.body.value(f"bitcast {self.bits_type} {a} to {self.real_type}")

    def call(self, name: str, *operands: float | str) -> str:
        """An intrinsic of LLVM."""
        intrinsic = f"llvm.{name}.{'f64' if self.lanes == 1 else f'v{self.lanes}f64'}"
        self.body.used.add(intrinsic)
        arguments = ", ".join(f"{self.real_type} {self.number(x)}" for x in operands)
        return self.body.value(f"call {self.real_type} @{intrinsic}({arguments})")

    def fused(self, a: float | str, b: float | str, c: float | str) -> str:
        """a b + c, in one instruction where the processor has it."""
        return self.call("fmuladd", a, b, c)

    def where(self, compare: str, a: str, b: float | str, yes: float | str, no: float | str) -> str:
        """yes if a compares so with b, else no."""
        truth = self.body.value(f"fcmp {compare} {self.real_type} {a}, {self.number(b)}")
        truths = vector_type("i1", self.lanes)
        first = f"{self.real_type} {self.number(yes)}"
        second = f"{self.real_type} {self.number(no)}"
        return self.body.value(f"select {truths} {truth}, {first}, {second}")

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """The polynomial by Estrin's scheme: short chains of instructions."""
        level: list[float | str] = list(coefficients)
        power = x
        while len(level) > 1:
            pairs: list[float | str] = []
            for k in range(0, len(level) - 1, 2):
                pairs.append(self.fused(power, level[k + 1], level[k]))
            if len(level) % 2:
                pairs.append(level[-1])
            level = pairs
            if len(level) > 1:
                power = self.real("fmul", power, power)
        return self.number(level[0])


def _power_of_two(w: _Writer, rounded: str) -> str:
    """2^n of a number n + _ROUNDER, for n from -1022 to 1023."""
    return w.double(w.whole("add", w.whole("shl", w.bits(rounded), 52), _ONE_BITS))


def _reduced(w: _Writer, x: str) -> tuple[str, str, str, str]:
    """(n + _ROUNDER, n, r, exp(r) - 1 - r) with x = n log 2 + r and |r| <= log(2) / 2."""
    rounded = w.fused(x, _LOG2_E, _ROUNDER)
    n = w.real("fsub", rounded, _ROUNDER)
    r = w.fused(n, -_LN2_LOW, w.fused(n, -_LN2_HIGH, x))
    square = w.real("fmul", r, r)
    return rounded, n, r, w.real("fmul", square, w.polynomial(r, _EXP))


def _exp(w: _Writer, x: str) -> str:
    x = w.where("ogt", x, 710.0, 710.0, x)
    x = w.where("olt", x, -746.0, -746.0, x)
    _, n, r, tail = _reduced(w, x)
    # In two factors, because 2^n can be too large or too small for a double.
    half = w.fused(n, 0.5, _ROUNDER)
    rest = w.real("fsub", n, w.real("fsub", half, _ROUNDER))
    other = w.real("fadd", rest, _ROUNDER)
    whole = w.real("fadd", w.real("fadd", r, tail), 1.0)
    return w.real("fmul", w.real("fmul", whole, _power_of_two(w, half)), _power_of_two(w, other))


def _expm1(w: _Writer, x: str) -> str:
    inside = w.where("ogt", x, 710.0, 710.0, x)
    inside = w.where("olt", inside, -60.0, -60.0, inside)
    rounded, _, r, tail = _reduced(w, inside)
    # 2^(n-1), because 2^1024 is too large. Nothing is lost for n = 0.
    scale = _power_of_two(w, w.real("fsub", rounded, 1.0))
    half = w.fused(scale, tail, w.fused(scale, r, w.real("fsub", scale, 0.5)))
    value = w.call("copysign", w.real("fadd", half, half), x)
    return w.where("olt", w.call("fabs", x), 2.0**-54, x, value)


def _tanh(w: _Writer, x: str) -> str:
    size = w.call("fabs", x)
    size = w.where("ogt", size, 22.0, 22.0, size)
    # With e = exp(-2 |x|) - 1, which is small for small x: tanh |x| = -e / (2 + e).
    rounded, _, r, tail = _reduced(w, w.real("fmul", size, -2.0))
    scale = _power_of_two(w, rounded)
    below = w.real("fadd", r, tail)
    rest = w.real("fsub", scale, 1.0)
    e = w.fused(scale, below, rest)
    lost = w.fused(scale, below, w.real("fsub", rest, e))
    denominator = w.real("fadd", e, 2.0)
    beside = w.real("fadd", w.real("fsub", 2.0, denominator), e)
    quotient = w.real("fdiv", e, denominator)
    # What rounding took from e and from 2 + e. The inverse of 2 + e is (1 - quotient) / 2.
    other = w.real("fsub", 1.0, quotient)
    change = w.fused(lost, other, w.real("fmul", w.negative(quotient), beside))
    half = w.real("fmul", other, 0.5)
    return w.call("copysign", w.fused(half, change, quotient), x)


def _split(w: _Writer, x: str) -> tuple[str, str]:
    """(m - 1, k) with x = m 2^k and m from sqrt(1/2) to sqrt(2). x: normal and positive."""
    moved = w.whole("add", w.bits(x), _ONE_BITS - _SQRT_HALF_BITS)
    exponent = w.whole("add", w.whole("lshr", moved, 52), _ROUNDER_BITS - 1023)
    k = w.real("fsub", w.double(exponent), _ROUNDER)
    mantissa = w.whole("add", w.whole("and", moved, _MANTISSA), _SQRT_HALF_BITS)
    return w.real("fsub", w.double(mantissa), 1.0), k


def _series(w: _Writer, f: str, k: str, low: str) -> str:
    """log(1 + f) + k log 2 + low."""
    s = w.real("fdiv", f, w.real("fadd", f, 2.0))
    z = w.real("fmul", s, s)
    half = w.real("fmul", w.real("fmul", f, 0.5), f)
    tail = w.real("fadd", half, w.real("fmul", z, w.polynomial(z, _LOG)))
    small = w.fused(k, _LN2_LOW, low)
    total = w.real("fsub", w.fused(s, tail, small), half)
    return w.fused(k, _LN2_HIGH, w.real("fadd", total, f))


def _edges(w: _Writer, x: str, pole: float, value: str) -> str:
    """value, but x itself if it is NaN or infinity, -infinity at the pole, and NaN below."""
    value = w.where("olt", x, _INFINITY, value, x)
    value = w.where("olt", x, pole, float("nan"), value)
    return w.where("oeq", x, pole, -_INFINITY, value)


def _log(w: _Writer, x: str) -> str:
    scaled = w.real("fmul", x, 2.0**54)
    normal = w.where("olt", x, _SMALLEST_NORMAL, scaled, x)
    shift = w.where("olt", x, _SMALLEST_NORMAL, 54.0, 0.0)
    f, k = _split(w, normal)
    value = _series(w, f, w.real("fsub", k, shift), w.number(0.0))
    return _edges(w, x, 0.0, value)


def _log1p(w: _Writer, x: str) -> str:
    u = w.real("fadd", x, 1.0)
    f, k = _split(w, u)
    # What the rounding of 1 + x lost, relative to 1 + x.
    large = w.real("fsub", 1.0, w.real("fsub", u, x))
    small = w.real("fsub", x, w.real("fsub", u, 1.0))
    lost = w.real("fdiv", w.where("ogt", x, 1.0, large, small), u)
    value = _edges(w, x, -1.0, _series(w, f, k, lost))
    return w.where("olt", w.call("fabs", x), 2.0**-54, x, value)


def _erf(w: _Writer, x: str) -> str:
    size = w.call("fabs", x)
    size = w.where("ogt", size, 6.0, 6.0, size)
    square = w.real("fmul", size, size)
    near = w.fused(size, w.polynomial(square, _ERF), size)
    rounded, _, r, tail = _reduced(w, w.negative(square))
    decay = w.real("fmul", w.real("fadd", w.real("fadd", r, tail), 1.0), _power_of_two(w, rounded))
    place = w.real("fdiv", w.real("fsub", size, 2.0), w.real("fadd", size, 2.0))
    far = w.fused(w.negative(decay), w.polynomial(place, _ERFC), 1.0)
    return w.call("copysign", w.where("olt", size, 1.0, near, far), x)


FUNCTIONS: dict[str, Callable[[_Writer, str], str]] = {
    "exp": _exp,
    "expm1": _expm1,
    "tanh": _tanh,
    "log": _log,
    "log1p": _log1p,
    "erf": _erf,
}


def definition(name: str, inline: bool) -> tuple[str, set[str]]:
    """The text of a function like own.exp or own.exp.8, and the intrinsics of LLVM that it needs.

    name: without "own.". inline: whether callers take it in.
    """
    short, _, lanes = name.partition(".")
    used: set[str] = set()
    body = Body("double", used)
    writer = _Writer(body, int(lanes or 1))
    result = FUNCTIONS[short](writer, "%x")
    type_ = writer.real_type
    attributes = f"{'alwaysinline' if inline else 'noinline'} nounwind memory(none)"
    head = f"define internal {type_} @own.{name}({type_} %x) {attributes} {{"
    return "\n".join([head, *body.lines, f"  ret {type_} {result}", "}"]), used
