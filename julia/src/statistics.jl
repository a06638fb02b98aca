"""(return code, accepted, rejected, factorisations, linear solves, failed Newton iterations, size of the next step)."""
function statistics(S::Solved)
    s = S.sol.stats
    return (string(S.sol.retcode), s.naccept, s.nreject, s.nw, s.nsolve, s.nnonlinconvfail, S.dt)
end
