"""Where each number of a series stands, for whoever counts it, keeps it in shared memory or reads it there.

A sum has its total; a gauge its value and the second since 1970 it was set in; a histogram its sum, its
lowest and highest measurement, and then the own count of each bucket; a summary its sum, its count and, where
it is read, the value of each quantile. A total that is not a number is that of a series that is no more.
"""

TOTAL = 0
SET_AT = COUNT = 1
QUANTILES = 2
LOWEST, HIGHEST, BUCKETS = 1, 2, 3
