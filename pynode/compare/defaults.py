"""What a comparison does unless somebody says otherwise. This module imports no torch, because
``pynode compare --help`` must not wait for it."""

METHODS = ("fbdf", "rodas5p", "tsit5", "dp5")
RTOLS = (1e-3, 1e-5, 1e-7)
MAX_NFE = 50_000
# The reference solve uses the first that succeeds.
REFERENCE_RTOLS = (1e-11, 1e-10, 1e-9)
