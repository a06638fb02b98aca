# A system image with PyNODE, its solvers and these optional packages, for a start that loads none of them.
#   julia --project=... sysimage.jl FILE PACKAGE ...
# The optional packages must be in it: extensions of a package that is in the image are not loaded later (Julia 1.10). PythonCall
# must not be: it looks for Python when it is loaded, and juliacall says where that is after the image was read.
include("copied_project.jl")
using PackageCompiler: create_sysimage

const PACKAGES = ["PyNODE"; ARGS[2:end]]

in_copied_project() do folder
    # PackageCompiler compiles every package of the project.
    others = setdiff(keys(Pkg.project().dependencies), PACKAGES)
    isempty(others) || Pkg.rm(collect(others))
    create_sysimage(
        PACKAGES; sysimage_path = ARGS[1], project = folder,
        precompile_execution_file = joinpath(@__DIR__, "sysimage_workload.jl"),
        cpu_target = get(ENV, "JULIA_CPU_TARGET", "native"),
    )
end
