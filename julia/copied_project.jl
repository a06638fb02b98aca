# The active project in a folder of its own, with PyNODE in it, so that the project itself stays as it is.
using Pkg

"""Call action(folder) in a copy of the active project to which PyNODE was added."""
function in_copied_project(action)
    project = dirname(Base.active_project())
    mktempdir() do folder
        for name in readdir(project)
            endswith(name, ".toml") && cp(joinpath(project, name), joinpath(folder, name))
        end
        Pkg.activate(folder)
        # What the solves use is compiled already.
        withenv("JULIA_PKG_PRECOMPILE_AUTO" => "0") do
            Pkg.develop(; path = @__DIR__)
            action(folder)
        end
    end
end
