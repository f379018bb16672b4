# Tries to crash the interpreter by reading address 0. Expect: error
import ctypes

ctypes.string_at(0)
