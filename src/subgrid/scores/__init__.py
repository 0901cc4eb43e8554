"""The formula of every metric, once: pointwise scores that stream over blocks, statistics of a climate."""
