# The rows of a batch: an array of Requests, or of GradientRequests, served by several threads.
# Each row is alone, so results do not depend on the number of threads or on who takes which row.

"""A row was not begun: the time was over, or the batch interrupted."""
const SKIPPED = 3
const NAP = 50  # microseconds between two looks at whether the other threads are ready

"""
What the threads of a batch share. taken, done: how many rows were begun and finished. deadline,
next: in nanoseconds, of the batch and of the calling thread's next look at signals. error: the
exception of Python that a signal has raised.
"""
mutable struct Shares{S, R}
    const serve::S
    const batch::RowsRequest
    const rows::Ptr{R}
    const deadline::UInt64
    const error::Vector{Ptr{Cvoid}}
    next::UInt64
    @atomic taken::Int
    @atomic done::Int
end

"""Serve all rows of a batch by `serve`, which takes the address of an R."""
function serve_rows(serve, ::Type{R}, address::Ptr{RowsRequest}) where {R}
    batch = unsafe_load(address)
    batch.version == VERSION || return mismatch(batch)
    return guarded(batch.message, batch.room) do
        now = time_ns()
        shares = Shares(
            serve, batch, Ptr{R}(batch.rows), deadline(now, batch.seconds), fill(C_NULL, 3),
            now + PATIENCE, 0, 0,
        )
        with_one_blas_thread() do
            share_out(shares)
        end
        write_field!(address, Val(:error), (shares.error[1], shares.error[2], shares.error[3]))
        return unsafe_load(batch.stop) == 0 ? SERVED : STOPPED
    end
end

"""
Have the threads take rows, this one among them, until all are served. A task that Julia starts too
late finds no row left, and touches nothing of the other side.
"""
function share_out(shares::Shares)
    count = shares.batch.count
    others = min(shares.batch.threads, Threads.nthreads(), count) - 1
    for _ in 1:others
        Threads.@spawn take_rows(shares, false)
    end
    take_rows(shares, true)
    while (@atomic shares.done) < count
        look(shares)
        nap()
    end
    return nothing
end

"""Serve rows until none is left. is_caller: whether this is the thread that brought the batch."""
function take_rows(shares::Shares{S, R}, is_caller) where {S, R}
    batch = shares.batch
    while true
        i = @atomic shares.taken += 1
        i > batch.count && return nothing
        try
            is_caller && look(shares)
            answer = serve_row(shares, shares.rows + (i - 1) * sizeof(R), is_caller)
            unsafe_store!(batch.answers, answer, i)
        finally
            @atomic shares.done += 1
        end
    end
    return nothing
end

"""Serve the row at an address, if there is time."""
function serve_row(shares::Shares{S, R}, row::Ptr{R}, is_caller) where {S, R}
    now = time_ns()
    unsafe_load(shares.batch.stop) == 0 || return SKIPPED
    now > shares.deadline && return SKIPPED
    if shares.deadline != NEVER
        write_field!(row, Val(:seconds), 1e-9 * (shares.deadline - now))
    end
    # Only the calling thread may run the handlers of Python's signals.
    asks = is_caller && shares.batch.signals != 0
    fieldindex_signals(R) && write_field!(row, Val(:signals), Int64(asks))
    answer = Int64(shares.serve(row))
    if asks
        error = read_error(row)
        error[1] == C_NULL || interrupt!(shares, error)
    end
    return answer
end

"""Whether rows of this type say who asks for signals. A gradient reads it from its solve."""
fieldindex_signals(::Type{R}) where {R} = hasfield(R, :signals)

"""The exception of Python that a row has left."""
function read_error(row::Ptr{R}) where {R}
    place = row + fieldoffset(R, Base.fieldindex(R, :error))
    return unsafe_load(Ptr{NTuple{3, Ptr{Cvoid}}}(place))
end

"""Ask for signals, if that is due."""
function look(shares::Shares)
    shares.batch.signals != 0 || return nothing
    now = time_ns()
    now < shares.next && return nothing
    shares.next = now + PATIENCE
    raised_by_signal!(shares.error) && unsafe_store!(shares.batch.stop, 1)
    return nothing
end

"""Stop all rows: a signal has raised this exception in Python."""
function interrupt!(shares::Shares, error)
    copyto!(shares.error, error)
    unsafe_store!(shares.batch.stop, 1)
    return nothing
end

"""Let the processor go for a moment. Meanwhile other threads may collect garbage."""
function nap()
    state = ccall(:jl_gc_safe_enter, Int8, ())
    ccall(:usleep, Cint, (Cuint,), NAP)
    ccall(:jl_gc_safe_leave, Cvoid, (Int8,), state)
    return nothing
end

# Each row has a thread already: BLAS gets no more. The number of its threads belongs to the
# process, so the first batch sets it and the last one puts it back.
mutable struct BlasThreads
    const lock::ReentrantLock
    batches::Int
    before::Int
end
const BLAS_THREADS = BlasThreads(ReentrantLock(), 0, 0)

function with_one_blas_thread(work)
    lock(BLAS_THREADS.lock) do
        if BLAS_THREADS.batches == 0
            BLAS_THREADS.before = BLAS.get_num_threads()
            BLAS_THREADS.before == 1 || BLAS.set_num_threads(1)
        end
        BLAS_THREADS.batches += 1
    end
    try
        return work()
    finally
        lock(BLAS_THREADS.lock) do
            BLAS_THREADS.batches -= 1
            if BLAS_THREADS.batches == 0 && BLAS_THREADS.before != 1
                BLAS.set_num_threads(BLAS_THREADS.before)
            end
        end
    end
end

serve_forward_rows(address::Ptr{RowsRequest}) = serve_rows(serve_forward, Request, address)
serve_gradient_rows(address::Ptr{RowsRequest}) =
    serve_rows(serve_gradient, GradientRequest, address)

"""Let go of several kept solves."""
function release_rows(numbers::Ptr{Int64}, count::Int64)
    for i in 1:count
        remove!(KEPT, unsafe_load(numbers, i))
    end
    return SERVED
end
