"""
    reverse(S, F, dy0, dp, cotangents, times, t1, alg, name; rtol, atol, checkpointing)

As `native_gauss`, and with the same answer, by SciMLSensitivity's adjoint of that name. In an extension, so that it is optional.
"""
function reverse end
