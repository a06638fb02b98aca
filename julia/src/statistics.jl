"""(return code, accepted, rejected, factorisations, linear solves, failed Newton iterations, size of the next step,
changes of method)."""
function statistics(S::Solved)
    s = S.sol.stats
    return (string(S.sol.retcode), S.accepted, s.nreject, s.nw, solves(S.alg, s), s.nnonlinconvfail, S.dt, S.switches)
end

solves(alg, stats) = stats.nsolve
