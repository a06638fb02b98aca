# What a start of Julia with this project would find of the packages that PyNODE asks for; none of them is loaded.
#   julia --project=... check.jl NAME:UUID:BOUNDS ...
# A line each, with tabs: name, version ('' where it is not there), whether it is within the bounds ('' for any version).
using Pkg, TOML

function version(name, uuid)
    path = Base.locate_package(Base.PkgId(Base.UUID(uuid), name))
    path isa String && isfile(path) || return nothing
    project = joinpath(dirname(dirname(path)), "Project.toml")
    return VersionNumber(get(isfile(project) ? TOML.parsefile(project) : Dict(), "version", string(VERSION)))
end

println("julia\t", VERSION, "\ttrue")
for argument in ARGS
    name, uuid, bounds = split(argument, ':')
    found = version(name, uuid)
    within = found === nothing ? false : isempty(bounds) || found in Pkg.Versions.semver_spec(String(bounds))
    println(name, '\t', something(found, ""), '\t', within)
end
