module PyNODECUDAExt

using PyNODE: PyNODE
using CUDA: CUDA, CuArray, CuPtr

"""One GPU, whose memory the other side owns and lends; CUDA.jl and the other side share its primary context."""
struct Device
    ordinal::Int
end

function PyNODE.place(::Val{1}, ordinal)
    CUDA.functional() || throw(ArgumentError("CUDA.jl finds no GPU that it can use: CUDA.versioninfo() says more"))
    CUDA.device!(ordinal)
    return Device(ordinal)
end

# Where there are no entries there is no pointer either, and CUDA.jl asks the driver whose memory a pointer is.
PyNODE.wrapped(::Device, ::Type{T}, address, dims...) where {T} =
    address == C_NULL ? CuArray{T}(undef, dims) : unsafe_wrap(CuArray, CuPtr{T}(UInt(address)), dims)

PyNODE.synchronise(::Device) = CUDA.synchronize()

end
