"""
    reverse_solve(S, G, ts, t1, alg, name; rtol, atol, checkpointing)

As `native_gauss`, and with the same answer, by SciMLSensitivity's adjoint of that name. t1: where
the forward solve ended. In an extension, so that it is optional.
"""
function reverse_solve end

"""The reverse solve cannot go on from t."""
struct Ended <: Exception
    t::Float64
end
Base.showerror(io::IO, ended::Ended) = print(io, "the reverse solve ended at $(ended.t)")
