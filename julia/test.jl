# `Pkg.test` of PyNODE with the packages of the active project.
#   julia --project=... julia/test.jl
include("copied_project.jl")

in_copied_project() do _
    # Bounds checks as the source says, not everywhere, for which all packages would be compiled once more.
    Pkg.test("PyNODE"; julia_args = ["--check-bounds=auto"])
end
