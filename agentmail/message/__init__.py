"""One Internet message: bytes to `Message` (liberal), an answer to bytes (strict).

Pure: no I/O, no database, no logging; the clock and the random source are parameters.
"""
