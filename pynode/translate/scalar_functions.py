"""The formulas of torch's element by element operations, on scalar expressions.

Each function takes the pool, the operands and the fixed numbers of the operation. The formulas are
those of torch's kernels for the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .expressions import Expressions

_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)
_GELU_BETA = math.sqrt(2.0 / math.pi)
_GELU_KAPPA = 0.044715
# torch's kernel has 1/6 in single precision, for double precision too.
_SIXTH = 0.1666666716337204

SCALAR: dict[str, Callable[..., int]] = {}


def _scalar(function: Callable[..., int]) -> Callable[..., int]:
    SCALAR[function.__name__.rstrip("_")] = function
    return function


def _library(name: str) -> Callable[..., int]:
    def function(e: Expressions, a: int) -> int:
        return e.unary(name, e.real(a))

    return function


# Functions that LLVM or the mathematics library has under one name.
LIBRARY = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh"
    " atanh sqrt abs erf erfc floor ceil trunc round"
).split()
SCALAR.update({name: _library(name) for name in LIBRARY})


def _comparison(name: str) -> Callable[..., int]:
    def function(e: Expressions, a: int, b: int) -> int:
        return e.compare(name, e.real(a), e.real(b))

    return function


SCALAR.update({name: _comparison(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")})


@_scalar
def copy(e: Expressions, a: int) -> int:
    """a."""
    return a


@_scalar
def to_real(e: Expressions, a: int) -> int:
    """a as a number."""
    return e.real(a)


@_scalar
def to_bool(e: Expressions, a: int) -> int:
    """Whether a isn't 0."""
    return e.truth(a)


@_scalar
def add(e: Expressions, a: int, b: int, alpha: float = 1.0) -> int:
    """a + alpha b."""
    return e.add(e.real(a), e.mul(e.const(alpha), e.real(b)))


@_scalar
def sub(e: Expressions, a: int, b: int, alpha: float = 1.0) -> int:
    """a - alpha b."""
    return e.sub(e.real(a), e.mul(e.const(alpha), e.real(b)))


@_scalar
def mul(e: Expressions, a: int, b: int) -> int:
    """a b."""
    return e.mul(e.real(a), e.real(b))


@_scalar
def div(e: Expressions, a: int, b: int) -> int:
    """a / b."""
    return e.div(e.real(a), e.real(b))


@_scalar
def neg(e: Expressions, a: int) -> int:
    """-a."""
    return e.neg(e.real(a))


@_scalar
def reciprocal(e: Expressions, a: int) -> int:
    """1 / a."""
    return e.div(e.one, e.real(a))


@_scalar
def rsqrt(e: Expressions, a: int) -> int:
    """1 / sqrt(a)."""
    return e.div(e.one, e.unary("sqrt", e.real(a)))


@_scalar
def sign(e: Expressions, a: int) -> int:
    """-1, 0 or 1."""
    a = e.real(a)
    below = e.select(e.compare("lt", a, e.zero), e.const(-1.0), e.zero)
    return e.select(e.compare("gt", a, e.zero), e.one, below)


@_scalar
def isnan(e: Expressions, a: int) -> int:
    """Whether a is NaN."""
    a = e.real(a)
    return e.compare("ne", a, a) if e.value(a) is not None else e.binary("une", a, a, "bool")


@_scalar
def isfinite(e: Expressions, a: int) -> int:
    """Whether a is neither infinite nor NaN."""
    return e.compare("lt", e.unary("abs", e.real(a)), e.const(math.inf))


@_scalar
def isinf(e: Expressions, a: int) -> int:
    """Whether a is infinite."""
    return e.compare("eq", e.unary("abs", e.real(a)), e.const(math.inf))


@_scalar
def logical_not(e: Expressions, a: int) -> int:
    """not a."""
    return e.invert(e.truth(a))


@_scalar
def logical_and(e: Expressions, a: int, b: int) -> int:
    """a and b."""
    return e.both(e.truth(a), e.truth(b))


@_scalar
def logical_or(e: Expressions, a: int, b: int) -> int:
    """a or b."""
    return e.either(e.truth(a), e.truth(b))


@_scalar
def logical_xor(e: Expressions, a: int, b: int) -> int:
    """Either a or b."""
    a = e.truth(a)
    b = e.truth(b)
    return e.both(e.either(a, b), e.invert(e.both(a, b)))


@_scalar
def where(e: Expressions, condition: int, a: int, b: int) -> int:
    """a where the condition holds, else b."""
    return e.select(e.truth(condition), a, b)


@_scalar
def select_place(e: Expressions, index: int, place: int, a: int, b: int) -> int:
    """a where index is this place, else b."""
    return e.select(e.compare("eq", e.real(index), e.real(place)), a, b)


@_scalar
def maximum(e: Expressions, a: int, b: int) -> int:
    """The larger; NaN if one is NaN."""
    a = e.real(a)
    b = e.real(b)
    larger = e.select(e.compare("gt", a, b), a, b)
    return e.select(isnan(e, a), a, larger)


@_scalar
def minimum(e: Expressions, a: int, b: int) -> int:
    """The smaller; NaN if one is NaN."""
    a = e.real(a)
    b = e.real(b)
    smaller = e.select(e.compare("lt", a, b), a, b)
    return e.select(isnan(e, a), a, smaller)


@_scalar
def power(e: Expressions, a: int, b: int) -> int:
    """a to the power b; the exponents that torch has kernels for need no pow."""
    a = e.real(a)
    b = e.real(b)
    exponent = e.value(b)
    if exponent is None:
        return e.power(a, b)
    if exponent == 0.0:
        return e.one
    if exponent < 0.0 and -exponent in (0.5, 1.0, 2.0):
        return e.div(e.one, power(e, a, e.const(-exponent)))
    if exponent == 0.5:
        return e.unary("sqrt", a)
    if exponent == 1.0:
        return a
    if exponent == 2.0:
        return e.mul(a, a)
    if exponent == 3.0:
        return e.mul(e.mul(a, a), a)
    if exponent == 4.0:
        square = e.mul(a, a)
        return e.mul(square, square)
    return e.power(a, b)


@_scalar
def fmod(e: Expressions, a: int, b: int) -> int:
    """The remainder with the sign of a."""
    return e.binary("fmod", e.real(a), e.real(b))


@_scalar
def remainder(e: Expressions, a: int, b: int) -> int:
    """The remainder with the sign of b."""
    a = e.real(a)
    b = e.real(b)
    rest = e.binary("fmod", a, b)
    other_sign = logical_xor(e, e.compare("lt", rest, e.zero), e.compare("lt", b, e.zero))
    wrong = e.both(e.compare("ne", rest, e.zero), other_sign)
    return e.select(wrong, e.add(rest, b), rest)


@_scalar
def div_floor(e: Expressions, a: int, b: int) -> int:
    """floor(a / b)."""
    return e.unary("floor", e.div(e.real(a), e.real(b)))


@_scalar
def div_trunc(e: Expressions, a: int, b: int) -> int:
    """a / b without its fraction."""
    return e.unary("trunc", e.div(e.real(a), e.real(b)))


@_scalar
def atan2(e: Expressions, a: int, b: int) -> int:
    """The angle of the point (b, a)."""
    return e.binary("atan2", e.real(a), e.real(b))


@_scalar
def hypot(e: Expressions, a: int, b: int) -> int:
    """sqrt(a^2 + b^2)."""
    return e.binary("hypot", e.real(a), e.real(b))


@_scalar
def xlogy(e: Expressions, a: int, b: int) -> int:
    """a log(b), and 0 where a is 0."""
    a = e.real(a)
    b = e.real(b)
    product = e.mul(a, e.unary("log", b))
    value = e.select(e.compare("eq", a, e.zero), e.zero, product)
    return e.select(isnan(e, b), b, value)


@_scalar
def special_xlog1py(e: Expressions, a: int, b: int) -> int:
    """a log(1 + b), and 0 where a is 0."""
    a = e.real(a)
    b = e.real(b)
    product = e.mul(a, e.unary("log1p", b))
    value = e.select(e.compare("eq", a, e.zero), e.zero, product)
    return e.select(isnan(e, b), b, value)


@_scalar
def logaddexp(e: Expressions, a: int, b: int) -> int:
    """log(exp(a) + exp(b))."""
    a = e.real(a)
    b = e.real(b)
    largest = maximum(e, a, b)
    distance = e.neg(e.unary("abs", e.sub(a, b)))
    total = e.add(largest, e.unary("log1p", e.unary("exp", distance)))
    # Twice the same infinity is this infinity.
    same = e.both(isinf(e, a), e.compare("eq", a, b))
    return e.select(same, a, total)


@_scalar
def nan_to_num(e: Expressions, a: int, nan: float, above: float, below: float) -> int:
    """a with numbers in the place of NaN and of the infinities."""
    a = e.real(a)
    value = e.select(e.compare("eq", a, e.const(math.inf)), e.const(above), a)
    value = e.select(e.compare("eq", a, e.const(-math.inf)), e.const(below), value)
    return e.select(isnan(e, a), e.const(nan), value)


@_scalar
def clamp(e: Expressions, a: int, low: int | None = None, high: int | None = None) -> int:
    """a between the bounds; NaN stays."""
    a = e.real(a)
    if low is not None:
        a = maximum(e, a, low)
    if high is not None:
        a = minimum(e, a, high)
    return a


@_scalar
def clamp_max(e: Expressions, a: int, high: int) -> int:
    """At most the bound."""
    return minimum(e, a, high)


@_scalar
def addcmul(e: Expressions, a: int, b: int, c: int, value: float) -> int:
    """a + value b c."""
    return e.add(e.real(a), e.mul(e.mul(e.const(value), e.real(b)), e.real(c)))


@_scalar
def addcdiv(e: Expressions, a: int, b: int, c: int, value: float) -> int:
    """a + value b / c."""
    return e.add(e.real(a), e.div(e.mul(e.const(value), e.real(b)), e.real(c)))


@_scalar
def lerp(e: Expressions, a: int, b: int, weight: int) -> int:
    """a + weight (b - a), from the nearer end."""
    a = e.real(a)
    b = e.real(b)
    weight = e.real(weight)
    difference = e.sub(b, a)
    low = e.add(a, e.mul(weight, difference))
    high = e.sub(b, e.mul(difference, e.sub(e.one, weight)))
    near = e.compare("lt", e.unary("abs", weight), e.const(0.5))
    return e.select(near, low, high)


@_scalar
def relu(e: Expressions, a: int) -> int:
    """max(a, 0)."""
    return maximum(e, a, e.zero)


@_scalar
def sigmoid(e: Expressions, a: int) -> int:
    """1 / (1 + exp(-a))."""
    return e.div(e.one, e.add(e.one, e.unary("exp", e.neg(e.real(a)))))


@_scalar
def silu(e: Expressions, a: int) -> int:
    """a sigmoid(a)."""
    a = e.real(a)
    return e.div(a, e.add(e.one, e.unary("exp", e.neg(a))))


@_scalar
def softplus(e: Expressions, a: int, beta: float, threshold: float) -> int:
    """log(1 + exp(beta a)) / beta, and a where beta a is above the threshold."""
    scaled = e.mul(e.const(beta), e.real(a))
    value = e.div(e.unary("log1p", e.unary("exp", scaled)), e.const(beta))
    return e.select(e.compare("gt", scaled, e.const(threshold)), a, value)


@_scalar
def elu(e: Expressions, a: int, alpha: float, scale: float, input_scale: float) -> int:
    """scale a, and alpha scale (exp(input_scale a) - 1) for negative a."""
    a = e.real(a)
    below = e.mul(e.unary("expm1", e.mul(a, e.const(input_scale))), e.const(alpha * scale))
    negative = e.compare("lt", a, e.zero)
    return e.select(negative, below, e.mul(a, e.const(scale)))


@_scalar
def leaky_relu(e: Expressions, a: int, slope: float) -> int:
    """a, and slope a for negative a."""
    a = e.real(a)
    return e.select(e.compare("gt", a, e.zero), a, e.mul(a, e.const(slope)))


@_scalar
def gelu(e: Expressions, a: int) -> int:
    """a times the normal distribution's function of a."""
    a = e.real(a)
    cdf = e.mul(e.const(0.5), e.add(e.one, e.unary("erf", e.mul(a, e.const(_SQRT_HALF)))))
    return e.mul(a, cdf)


def _gelu_inner(e: Expressions, a: int) -> int:
    cube = e.mul(e.mul(a, a), a)
    inner = e.add(a, e.mul(e.const(_GELU_KAPPA), cube))
    return e.unary("tanh", e.mul(e.const(_GELU_BETA), inner))


@_scalar
def gelu_tanh(e: Expressions, a: int) -> int:
    """gelu with its approximation by tanh."""
    a = e.real(a)
    return e.mul(e.mul(e.const(0.5), a), e.add(e.one, _gelu_inner(e, a)))


@_scalar
def gelu_tanh_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of gelu_tanh."""
    a = e.real(a)
    inner = _gelu_inner(e, a)
    left = e.mul(e.const(0.5), e.add(e.one, inner))
    slope = e.sub(e.one, e.mul(inner, inner))
    square = e.mul(e.const(3.0 * _GELU_KAPPA), e.mul(a, a))
    factor = e.mul(e.const(0.5 * _GELU_BETA), e.add(e.one, square))
    return e.mul(g, e.add(left, e.mul(e.mul(a, slope), factor)))


@_scalar
def gelu_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of gelu."""
    a = e.real(a)
    cdf = e.mul(e.const(0.5), e.add(e.one, e.unary("erf", e.mul(a, e.const(_SQRT_HALF)))))
    square = e.mul(e.mul(a, a), e.const(-0.5))
    density = e.mul(e.const(_INV_SQRT_2PI), e.unary("exp", square))
    return e.mul(g, e.add(cdf, e.mul(a, density)))


@_scalar
def mish(e: Expressions, a: int) -> int:
    """a tanh(log(1 + exp(a)))."""
    a = e.real(a)
    return e.mul(a, e.unary("tanh", e.unary("log1p", e.unary("exp", a))))


@_scalar
def mish_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of mish."""
    a = e.real(a)
    tanh = e.unary("tanh", e.unary("log1p", e.unary("exp", a)))
    slope = e.mul(e.mul(a, sigmoid(e, a)), e.sub(e.one, e.mul(tanh, tanh)))
    return e.mul(g, e.add(tanh, slope))


@_scalar
def log_sigmoid(e: Expressions, a: int) -> int:
    """log(sigmoid(a))."""
    a = e.real(a)
    low = e.select(e.compare("lt", a, e.zero), a, e.zero)
    return e.sub(low, e.unary("log1p", e.unary("exp", e.neg(e.unary("abs", a)))))


@_scalar
def log_sigmoid_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of log_sigmoid."""
    return e.mul(g, sigmoid(e, e.neg(e.real(a))))


@_scalar
def tanh_backward(e: Expressions, g: int, y: int) -> int:
    """The pullback of y = tanh(a)."""
    return e.mul(g, e.sub(e.one, e.mul(y, y)))


@_scalar
def sigmoid_backward(e: Expressions, g: int, y: int) -> int:
    """The pullback of y = sigmoid(a)."""
    return e.mul(g, e.mul(e.sub(e.one, y), y))


@_scalar
def threshold_backward(e: Expressions, g: int, a: int, threshold: float) -> int:
    """g where a is above the threshold."""
    return e.select(e.compare("le", e.real(a), e.const(threshold)), e.zero, g)


@_scalar
def threshold(e: Expressions, a: int, limit: float, value: float) -> int:
    """a where it is above the limit, else value."""
    a = e.real(a)
    return e.select(e.compare("le", a, e.const(limit)), e.const(value), a)


@_scalar
def silu_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of silu."""
    a = e.real(a)
    s = sigmoid(e, a)
    return e.mul(g, e.mul(s, e.add(e.one, e.mul(a, e.sub(e.one, s)))))


@_scalar
def softplus_backward(e: Expressions, g: int, a: int, beta: float, threshold: float) -> int:
    """The pullback of softplus."""
    scaled = e.mul(e.const(beta), e.real(a))
    z = e.unary("exp", scaled)
    value = e.div(e.mul(g, z), e.add(z, e.one))
    return e.select(e.compare("gt", scaled, e.const(threshold)), g, value)


@_scalar
def elu_backward(
    e: Expressions,
    g: int,
    a: int,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
) -> int:
    """The pullback of elu; a: its result or its argument."""
    a = e.real(a)
    if is_result:
        value = e.add(a, e.const(alpha * scale))
    else:
        value = e.mul(e.unary("exp", e.mul(a, e.const(input_scale))), e.const(alpha * scale))
    below = e.mul(g, e.mul(e.const(input_scale), value))
    return e.select(e.compare("le", a, e.zero), below, e.mul(g, e.const(scale)))


@_scalar
def leaky_relu_backward(e: Expressions, g: int, a: int, slope: float) -> int:
    """The pullback of leaky_relu."""
    return e.select(e.compare("gt", e.real(a), e.zero), g, e.mul(g, e.const(slope)))


@_scalar
def hardtanh_backward(e: Expressions, g: int, a: int, low: float, high: float) -> int:
    """g where a lies strictly between the bounds."""
    a = e.real(a)
    inside = e.both(e.compare("gt", a, e.const(low)), e.compare("lt", a, e.const(high)))
    return e.select(inside, g, e.zero)


@_scalar
def hardsigmoid(e: Expressions, a: int) -> int:
    """min(max(a + 3, 0), 6) / 6."""
    shifted = e.add(e.real(a), e.const(3.0))
    return e.div(clamp(e, shifted, e.zero, e.const(6.0)), e.const(6.0))


@_scalar
def hardsigmoid_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of hardsigmoid."""
    return hardtanh_backward(e, e.mul(g, e.const(_SIXTH)), a, -3.0, 3.0)


@_scalar
def hardswish(e: Expressions, a: int) -> int:
    """a hardsigmoid(a)."""
    return e.mul(e.real(a), hardsigmoid(e, a))


@_scalar
def hardswish_backward(e: Expressions, g: int, a: int) -> int:
    """The pullback of hardswish."""
    a = e.real(a)
    middle = e.mul(g, e.add(e.div(a, e.const(3.0)), e.const(0.5)))
    above = e.select(e.compare("lt", a, e.const(3.0)), middle, g)
    return e.select(e.compare("le", a, e.const(-3.0)), e.zero, above)
