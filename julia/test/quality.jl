# Ambiguities, unbound type parameters, undefined exports, stale and unbounded dependencies, piracy.
import Pkg

# The test of persistent tasks makes an environment of its own, for which it needs a registry.
const REGISTERED = any(registry -> haskey(registry, Base.PkgId(PyNODE.SciMLBase).uuid), Pkg.Registry.reachable_registries())
REGISTERED || push!(LEFT_OUT, "Aqua's test of persistent tasks needs a registry of packages")
Aqua.test_all(PyNODE; persistent_tasks = REGISTERED)
